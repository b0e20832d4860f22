"""ReBRAC: TD3+BC with a penalty in the critics too (Tarasov et al. 2023, arXiv 2305.09836).

The squared distance from the dataset's actions is a penalty in the policy's loss and in the
critics' targets, with a weight for each. The critics are deeper, and their layers are normalised.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from algos import td3_bc
from purejaxrl.algorithm import Algorithm
from purejaxrl.validation import hyper


@dataclass(frozen=True)
class Config(td3_bc.Config):
    """Settings that decide a shape or a length. Static."""

    batch_size: int = 1024
    """Transitions in a batch."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the torso's dense layers."""
    critic_norm: bool = True
    """Normalise the layers of the critics."""
    normalize_obs: bool = False
    """Standardise observations by the dataset's moments."""


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    dataset: Any = None
    """What to learn from: a `Dataset`."""
    actor_rate: float = hyper(1e-3, at_least=0)
    """Adam's step size of the actor."""
    critic_rate: float = hyper(1e-3, at_least=0)
    """Adam's step size of the critics."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step."""
    actor_penalty: float = hyper(0.01, at_least=0)
    """Weight of the policy's squared distance from the dataset's actions."""
    critic_penalty: float = hyper(0.001, at_least=0)
    """Weight of the next action's squared distance from the dataset's, in the targets."""
    target_noise: float = hyper(0.2, at_least=0)
    """Standard deviation of the noise on the target policy's actions."""
    target_noise_clip: float = hyper(0.5, at_least=0, infinite=True)
    """Bound of that noise."""
    target_rate: float = hyper(0.005, above=0, at_most=1)
    """How far the target networks move with each step of the policy."""


def squared_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute the squared distance of actions `[..., num_dims]`."""
    return ((a - b) ** 2).sum(-1)


def imitate(x: td3_bc.ActorInputs, hypers: Hypers) -> jax.Array:
    """Compute -Q / mean |Q| + β₁ (π(s) - a)², with the lower value of the two critics."""
    q = x.q.min(0)
    scale = 1.0 / (jax.lax.stop_gradient(jnp.abs(q).mean()) + 1e-8)
    distance = squared_distance(x.action, x.data_action)
    return -scale * q.mean() + hypers.actor_penalty * distance.mean()


def penalty(following: td3_bc.Following, hypers: Hypers) -> jax.Array:
    """Compute β₂ (a' - â')², where â' is the dataset's next action; 0 where there is none."""
    distance = squared_distance(following.action, following.data_action)
    return jnp.where(following.has_next, hypers.critic_penalty * distance, 0.0)


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make ReBRAC; the arguments and errors are those of `td3_bc.make`."""
    return td3_bc.make(config, env, torso, imitate, penalty)
