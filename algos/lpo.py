"""Learned policy optimisation (Lu et al. 2022, arXiv 2210.05639): PPO whose clip is learned.

A fork of `ppo.py`. The drift function, which says what it costs to leave the old policy, is a
network and a leaf of `Hypers`; `purejaxrl.meta.evolution` learns it. Mirror learning (Kuba et al.
2022) asks that a drift is never negative, and 0 with zero gradient at the old policy: this one is
so by construction, whatever its parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from algos import ppo
from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import part_name
from purejaxrl.validation import require, require_count

MARGIN = 1e-4
"""The drift is what of the network's output lies above this: flat around the old policy."""


@dataclass(frozen=True)
class Config(ppo.Config):
    """PPO's settings, and the drift network's."""

    drift_width: int = 128
    """Width of the drift network."""
    drift_clip: float = 0.2
    """Clip range of the drift that has learned nothing yet, to which the network adds; inf for no
    clipping, so that evolution starts from nothing."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "drift_width")
        require(self.drift_clip > 0, self, "drift_clip", "a number > 0")

    def make_drift(self) -> "Drift":
        """Make the drift network that this describes."""
        return Drift(self.drift_width, self.drift_clip)


class Hypers(ppo.Hypers):
    """PPO's, of which `clip_eps` is not used: a drift has a clip range of its own."""

    drift: Any = None
    """Parameters of the `Drift`."""
    age: float = 0.0
    """n/N, part of its life that is over; for drifts that know of time, set by the update."""


def features(log_ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """What the drift reads, `[..., 8]`: all of it 0 where the ratio is 1."""
    change = 1 - jnp.exp(log_ratio)
    x = jnp.stack([log_ratio, log_ratio**2, change, change**2], axis=-1)
    return jnp.concatenate([x, x * advantage[..., None]], axis=-1)


class Drift(nn.Module):
    """A drift function: clipping's, and what a network without biases adds to it."""

    width: int
    clip: float

    @nn.compact
    def __call__(  # noqa: D102
        self, log_ratio: jax.Array, advantage: jax.Array, age: jax.Array
    ) -> jax.Array:
        x = self.about_time(features(log_ratio, advantage), age)
        hidden = jnp.tanh(nn.Dense(self.width, use_bias=False)(x))
        readout = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros)
        learned = readout(hidden)[..., 0]
        return nn.relu(clipping(log_ratio, advantage, self.clip) + learned - MARGIN)

    def about_time(self, x: jax.Array, age: jax.Array) -> jax.Array:
        """What it reads, given the agent's age: the same at any."""
        return x


def clipping(log_ratio: jax.Array, advantage: jax.Array, clip_eps: float) -> jax.Array:
    """PPO's clipping as a drift."""
    ratio = jnp.exp(log_ratio)
    return nn.relu((ratio - jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)) * advantage)


def init_drift(key: jax.Array, config: Config) -> Any:
    """Draw the parameters of a drift that has learned nothing yet: it clips, but for the margin."""
    zero = jnp.zeros(1)
    return config.make_drift().init(key, zero, zero, 0.0)


def with_drift(drift: Any, hypers: Hypers) -> Hypers:
    """Put a drift in its place: what a meta-learner inserts."""
    return hypers.replace(drift=drift)


def make(config: Config, env: Any, drift: Callable | None = None) -> Algorithm:
    """LPO on a gymnax environment with discrete or continuous actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment.
        drift: `(hypers.drift, log_ratio, advantage, age) -> drift`; the network's by default.
    """
    drift = drift or config.make_drift().apply

    def policy_loss(log_ratio: jax.Array, advantage: jax.Array, hypers: Hypers) -> jax.Array:
        penalty = drift(hypers.drift, log_ratio, advantage, hypers.age)
        return penalty - jnp.exp(log_ratio) * advantage

    inner = ppo.make(config, env, policy_loss)

    def learn(state: ppo.State, hypers: Hypers, trajectory: ppo.Trajectory):
        age = jnp.minimum(state.step / state.task.horizon, 1.0)
        return inner.learn(state, hypers.replace(age=age), trajectory)

    return inner._replace(learn=learn, made_of=(part_name(env), part_name(drift)))
