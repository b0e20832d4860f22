"""An ensemble of dynamics models, learned from a dataset (Chua et al. 2018, arXiv 1805.12114).

Each model predicts a Gaussian over the change of the observation and the reward, and the
probability that the episode terminates. A policy acts in it step by step, each step in a model that
is drawn at random (MBPO, Janner et al. 2019, arXiv 1906.08253). The policy is followed exactly, but
errors add up over steps. `trajectory_diffusion.py` instead draws all steps of a piece together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, no_steps
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, optimizers
from purejaxrl.parts.continuous import check_vectors, num_dims
from purejaxrl.parts.normalize import Scale
from purejaxrl.parts.transitions import Step
from purejaxrl.validation import hyper, require_count

LOG_STD = -6.0, 1.0
"""Least and greatest logarithm of a standard deviation, of standardised targets."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_models: int = 7
    """Models of the ensemble."""
    batch_size: int = 256
    """Steps in a batch of each model."""
    hidden: tuple[int, ...] = (200, 200)
    """Widths of a model's dense layers."""
    activation: networks.Activation = "silu"
    """Nonlinearity of a model."""

    def __post_init__(self):
        require_count(self, "num_models", "batch_size")
        networks.check_layers(self)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    dataset: Any = None
    """What to learn from: a `Dataset`."""
    learning_rate: float = hyper(1e-3, at_least=0)
    """Adam's step size, annealed to 0."""


class Ensemble(NamedTuple):
    """What rollouts are made with."""

    params: Any  # leaves [num_models, ...]
    inputs: Scale  # of observation and action
    targets: Scale  # of the observation's change and the reward


class State(NamedTuple):
    """An ensemble that learns."""

    ensemble: Ensemble
    opt_state: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Prediction(NamedTuple):
    """What a model says of a step, standardised: leaves `[..., entries]`, and `ends` `[...]`."""

    mean: jax.Array
    log_std: jax.Array
    ends: jax.Array  # logit of a termination


def inputs_of(steps: Step) -> jax.Array:
    """Return what a model reads of steps, `[..., obs + action]`."""
    return jnp.concatenate([steps.obs, steps.action], -1)


def targets_of(steps: Step) -> jax.Array:
    """Return what a model predicts of steps, `[..., obs + 1]`."""
    return jnp.concatenate([steps.next_obs - steps.obs, steps.reward[..., None]], -1)


class Dynamics(nn.Module):
    """One model: standardised observation and action to a prediction."""

    num_obs: int
    config: Config

    @nn.compact
    def __call__(self, x: jax.Array) -> Prediction:  # noqa: D102
        size = self.num_obs + 1
        hidden = networks.MLP(self.config.hidden, self.config.activation)(x)
        out = networks.dense(2 * size + 1, 0.01)(hidden)
        low, high = LOG_STD
        log_std = low + 0.5 * (high - low) * (1.0 + jnp.tanh(out[..., size:-1]))
        return Prediction(out[..., :size], log_std, out[..., -1])


def make(config: Config, env: Any) -> Algorithm:
    """Make an ensemble of dynamics models; its policy is an `Ensemble`.

    Args:
        config: static settings.
        env: the environment that the dataset was recorded in.

    Raises:
        ValueError: if observations are not vectors, or actions are not vectors in [-1, 1].
    """
    check_vectors(env)
    num_dims(env)

    def network(steps: Step) -> Dynamics:
        return Dynamics(steps.obs.shape[-1], config)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        params_key, key = jax.random.split(key)
        steps = hypers.dataset.steps
        inputs = inputs_of(steps)
        keys = jax.random.split(params_key, config.num_models)
        params = jax.vmap(network(steps).init, in_axes=(0, None))(keys, inputs[:1])
        return State(
            ensemble=Ensemble(params, Scale.of(inputs), Scale.of(targets_of(steps))),
            opt_state=optimizers.adam(0.0).init(params),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def draw(state: State, hypers: Hypers) -> tuple[State, Step]:
        """Draw a batch for each model."""
        key, draw_key = jax.random.split(state.key)
        places = hypers.dataset.draw(draw_key, config.num_models * config.batch_size)
        places = places.reshape(config.num_models, config.batch_size)
        return state._replace(key=key), jax.tree.map(lambda x: x[places], hypers.dataset.steps)

    def learn(state: State, hypers: Hypers, steps: Step) -> tuple[State, Metrics]:
        params, inputs, targets = state.ensemble
        x, y = inputs.to_unit(inputs_of(steps)), targets.to_unit(targets_of(steps))

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            said = jax.vmap(network(steps).apply)(params, x)
            error = (y - said.mean) ** 2
            likelihood = 0.5 * error * jnp.exp(-2 * said.log_std) + said.log_std
            ends = optax.sigmoid_binary_cross_entropy(said.ends, steps.terminated)
            each = (likelihood.sum(-1) + ends).mean(-1)
            return each.sum(), error.mean()  # a sum, so that models learn independently

        (value, error), grads = jax.value_and_grad(loss, has_aux=True)(params)
        rate = hypers.learning_rate * (1.0 - age_of(state))
        params, opt_state = optimizers.descend(rate, grads, state.opt_state, params)
        ensemble = state.ensemble._replace(params=params)
        state = state._replace(ensemble=ensemble, opt_state=opt_state, step=state.step + 1)
        return state, no_steps() | {"loss": value / config.num_models, "error": error}

    return Algorithm(
        config, init, draw, learn, lambda state: state.ensemble,
        vital=lambda state, metrics: (state.ensemble.params, metrics["loss"]), steps_per_update=0,
        made_of=part_names(env),
    )  # fmt: skip


Act = Callable[[jax.Array, jax.Array], jax.Array]
"""`(key, obs [n, entries]) -> action [n, entries]`."""


def roll_out(
    key: jax.Array, config: Config, ensemble: Ensemble, obs: jax.Array, act: Act, length: int
) -> Step:
    """Act in the ensemble, from given observations.

    Args:
        key: typed key.
        config: config of the ensemble.
        ensemble: the models.
        obs: where to begin, float32 `[n, entries]`.
        act: chooses actions.
        length: steps.

    Returns:
        Steps, leaves `[n, length, ...]`. The last is truncated. Steps after a termination are still
        returned; the caller must leave them out.
    """
    num, num_obs = obs.shape
    network = Dynamics(num_obs, config)

    def step(obs: jax.Array, key: jax.Array) -> tuple[jax.Array, Step]:
        act_key, model_key, noise_key, end_key = jax.random.split(key, 4)
        action = act(act_key, obs)
        x = ensemble.inputs.to_unit(jnp.concatenate([obs, action], -1))
        said = jax.vmap(network.apply, in_axes=(0, None))(ensemble.params, x)
        which = jax.random.randint(model_key, (num,), 0, config.num_models)
        said = jax.tree.map(lambda x: x[which, jnp.arange(num)], said)
        noise = jax.random.normal(noise_key, said.mean.shape)
        y = ensemble.targets.from_unit(said.mean + jnp.exp(said.log_std) * noise)
        change, reward = jnp.split(y, [num_obs], axis=-1)
        terminated = jax.random.bernoulli(end_key, jax.nn.sigmoid(said.ends))
        made = Step(obs, action, reward[:, 0], terminated, jnp.zeros_like(terminated), obs + change)
        return made.next_obs, made

    _, made = jax.lax.scan(step, obs, jax.random.split(key, length))
    made = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), made)
    return made._replace(truncated=made.truncated.at[:, -1].set(~made.terminated[:, -1]))
