"""Behaviour cloning: the policy that makes a dataset's actions most likely (Pomerleau 1991).

The loss is the negative log-likelihood. The policy of continuous actions is deterministic, and its
likelihood is that of a Gaussian around it with a deviation of 1: the squared error, up to a factor
and a constant.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, no_steps, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, policies, torsos
from purejaxrl.parts.dataset import observation_moments
from purejaxrl.parts.normalize import Moments
from purejaxrl.parts.optimizers import adam, descend
from purejaxrl.parts.transitions import Batch
from purejaxrl.validation import hyper, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    batch_size: int = 256
    """Steps in a batch."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso of the policy; tables have none."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    normalize_obs: bool = True
    """Standardise observations by the dataset's moments; ignored where they index a table."""

    def __post_init__(self):
        require_count(self, "batch_size")
        networks.check_network(self)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    dataset: Any = None
    """What to learn from: a `Dataset`."""
    learning_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size."""


class State(NamedTuple):
    """An agent that learns from a dataset."""

    params: Any
    opt_state: Any
    moments: Moments | None  # of the dataset's observations, where they are normalised
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make behaviour cloning for the environment that a dataset was recorded in.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, for the policy;
            by default a table, or the torso that the config names.

    Raises:
        ValueError: if the torso cannot read the observations or does not return features, or
            actions are neither discrete nor a vector in [-1, 1].
    """
    kind = policies.Categorical if networks.is_discrete(env) else policies.Deterministic
    pi = kind(env, torsos.torso_for(config, env, torso))

    def policy(state: State) -> policies.Fitted:
        return policies.Fitted(state.params, state.moments)

    log_prob = policies.log_prob_by(pi, policy)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        params_key, key = jax.random.split(key)
        first = jax.tree.map(lambda x: x[:1], hypers.dataset.steps.obs)
        params = pi.init(params_key, first)
        return State(
            params=params,
            opt_state=adam(hypers.learning_rate).init(params),
            moments=observation_moments(hypers.dataset, config.normalize_obs),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def draw(state: State, hypers: Hypers) -> tuple[State, Batch]:
        key, draw_key = jax.random.split(state.key)
        places = hypers.dataset.draw(draw_key, config.batch_size)
        return state._replace(key=key), hypers.dataset.read(places, 1.0)

    def learn(state: State, hypers: Hypers, batch: Batch) -> tuple[State, Metrics]:
        def loss(params: Any) -> jax.Array:
            return -log_prob(state._replace(params=params), batch)[0].mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        params, opt_state = descend(hypers.learning_rate, grads, state.opt_state, state.params)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, no_steps() | {"loss": value}

    return Algorithm(
        config, init, draw, learn, policy, policies.act_by(pi),
        vital=vital_losses("loss"), log_prob=log_prob,
        steps_per_update=0, made_of=part_names(env, torso),
    )  # fmt: skip
