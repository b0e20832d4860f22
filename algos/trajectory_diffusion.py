"""A diffusion model of pieces of a dataset's episodes, as policy-guided diffusion needs it.

The model is that of Karras et al. 2022 (`parts/edm.py`). A piece is a few consecutive steps:
observations, actions, rewards and terminations. Pieces are drawn from the model's p(τ), or from
p(τ) ∏ π(aₜ|sₜ)^λ: likely under a policy too.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, no_steps, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import edm, optimizers
from purejaxrl.parts.continuous import check_vectors, num_dims
from purejaxrl.parts.dataset import read_pieces
from purejaxrl.parts.normalize import Scale
from purejaxrl.parts.transitions import Step
from purejaxrl.running import checkpoint
from purejaxrl.validation import hyper, require_count

CLOSEST = 0.999
"""Largest size of an action whose inverse tanh is modelled."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    length: int = 16
    """Steps of a piece."""
    batch_size: int = 128
    """Pieces in a batch."""
    width: int = 256
    """Width of the denoiser's layers."""
    num_blocks: int = 3
    """Residual blocks of the denoiser."""

    def __post_init__(self):
        require_count(self, "length", "batch_size", "width", "num_blocks")


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    dataset: Any = None
    """What to learn from: a `Dataset`."""
    starts: Any = None
    """Where pieces begin: `starts_of_pieces(dataset, length)`."""
    learning_rate: float = hyper(1e-3, at_least=0)
    """Adam's step size; it rises over a tenth of the run, and falls to 0 along a cosine."""
    average_rate: float = hyper(0.005, above=0, at_most=1)
    """How far the average of the parameters, which samples are drawn with, moves at an update."""


class Model(NamedTuple):
    """What samples are drawn with."""

    params: Any
    scale: Scale  # of each channel


class State(NamedTuple):
    """A diffusion model that learns."""

    params: Any
    average: Any  # of the parameters
    opt_state: Any
    scale: Scale
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Denoiser(nn.Module):
    """Maps noised pieces `[batch, features]` and ln(σ) / 4 `[batch, 1]` to `[batch, features]`."""

    width: int
    num_blocks: int

    @nn.compact
    def __call__(self, x: jax.Array, level: jax.Array) -> jax.Array:  # noqa: D102
        angle = jnp.broadcast_to(level, (x.shape[0], 1)) * 2.0 ** jnp.arange(8)
        level = nn.Dense(self.width)(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1))
        hidden = nn.Dense(self.width)(x)
        for _ in range(self.num_blocks):
            inner = nn.silu(nn.Dense(self.width)(nn.LayerNorm()(hidden) + nn.silu(level)))
            hidden += nn.Dense(self.width)(inner)
        return nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros)(hidden)


def inverse_tanh(action: jax.Array) -> jax.Array:
    """Compute the inverse tanh of actions in [-1, 1], which is finite at the bounds."""
    return jnp.arctanh(jnp.clip(action, -CLOSEST, CLOSEST))


def to_channels(steps: Step) -> jax.Array:
    """Write steps `[...]` as channels, float32 `[..., num_obs + num_dims + 2]`.

    These are the observation, the inverse tanh of the action, the reward and the termination.
    """
    action = inverse_tanh(steps.action)
    ends = jnp.stack([steps.reward, steps.terminated.astype(jnp.float32)], -1)
    return jnp.concatenate([steps.obs, action, ends], -1)


def to_pieces(steps: Step) -> jax.Array:
    """Write steps `[batch, length]` as pieces, float32 `[batch, length + 1, channels]`.

    The last position holds the observation after the last step, and zeros. So the last step of a
    piece is a whole transition, and may be the one that ends the episode.
    """
    channels, num_obs = to_channels(steps), steps.obs.shape[-1]
    after = jnp.zeros_like(channels[:, :1]).at[..., :num_obs].set(steps.next_obs[:, -1:])
    return jnp.concatenate([channels, after], 1)


def from_pieces(pieces: jax.Array, num_obs: int) -> Step:
    """Read steps, leaves `[batch, length, …]`, from pieces `[batch, length + 1, channels]`.

    In the dataset only the last step of a piece can be terminal. A drawn piece may have a terminal
    step earlier. It counts as terminal too, and the steps after it count as separate experience.
    """
    obs, action = pieces[..., :num_obs], jnp.tanh(pieces[..., num_obs:-2])
    reward, terminated = pieces[:, :-1, -2], pieces[:, :-1, -1] > 0.5
    is_last = jnp.arange(pieces.shape[1] - 1) == pieces.shape[1] - 2
    truncated = jnp.broadcast_to(is_last, terminated.shape) & ~terminated
    return Step(obs[:, :-1], action[:, :-1], reward, terminated, truncated, obs[:, 1:])


def make(config: Config, env: Any) -> Algorithm:
    """Make a diffusion model of the pieces of a dataset's episodes; its policy is a `Model`.

    Args:
        config: static settings.
        env: the environment that the dataset was recorded in.

    Raises:
        ValueError: if observations are not vectors, or actions are not vectors in [-1, 1].
    """
    check_vectors(env)
    num_dims(env)
    network = Denoiser(config.width, config.num_blocks)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        if hypers.dataset.cumulative is not None:
            raise ValueError("dataset: it is weighted, and pieces of steps are drawn alike")
        params_key, key = jax.random.split(key)
        channels = to_channels(hypers.dataset.steps)
        size = (config.length + 1) * channels.shape[-1]
        params = network.init(params_key, jnp.zeros((1, size)), jnp.zeros((1, 1)))
        return State(
            params=params,
            average=params,
            opt_state=optimizers.adam(0.0).init(params),
            scale=Scale.of(channels),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def draw(state: State, hypers: Hypers) -> tuple[State, jax.Array]:
        key, draw_key = jax.random.split(state.key)
        which = jax.random.randint(draw_key, (config.batch_size,), 0, hypers.starts.shape[0])
        pieces = to_pieces(read_pieces(hypers.dataset, hypers.starts[which], config.length))
        pieces = state.scale.to_unit(pieces)
        return state._replace(key=key), pieces.reshape(config.batch_size, -1)

    def learn(state: State, hypers: Hypers, pieces: jax.Array) -> tuple[State, Metrics]:
        key, loss_key = jax.random.split(state.key)

        def loss(params: Any) -> jax.Array:
            return edm.denoising_loss(loss_key, lambda *x: network.apply(params, *x), pieces)

        value, grads = jax.value_and_grad(loss)(state.params)
        age = age_of(state)
        warm, fall = jnp.minimum(age / 0.1, 1.0), 0.5 * (1.0 + jnp.cos(jnp.pi * age))
        rate = hypers.learning_rate * warm * fall
        params, opt_state = optimizers.descend(rate, grads, state.opt_state, state.params)
        state = state._replace(
            params=params,
            average=optax.incremental_update(params, state.average, hypers.average_rate),
            opt_state=opt_state,
            key=key,
            step=state.step + 1,
        )
        return state, no_steps() | {"loss": value}

    return Algorithm(
        config, init, draw, learn, lambda state: Model(state.average, state.scale),
        vital=vital_losses("loss"), steps_per_update=0,
        made_of=part_names(env),
    )  # fmt: skip


LogProb = Callable[[jax.Array, jax.Array], jax.Array]
"""`(obs, action) -> log π(action | obs)`, over any leading axes."""


def draw_pieces(
    key: jax.Array,
    config: Config,
    model: Model,
    num_obs: int,
    num_pieces: int,
    how: edm.Sampling,
    log_prob: LogProb | None = None,
    guidance: jax.Array | float = 0.0,
) -> jax.Array:
    """Draw pieces from p(τ) ∏ π(a|s)^λ: float32 `[num_pieces, length + 1, channels]`.

    Guidance tilts actions, and not their inverse tanh: there the density of a Gaussian policy is
    not concave, and a step can overshoot to the bounds.

    Args:
        key: typed key.
        config: config of the model.
        model: the model.
        num_obs: entries of an observation.
        num_pieces: how many.
        how: how to sample.
        log_prob: log-probabilities of the policy that guides; None draws from p(τ).
        guidance: λ.
    """
    network, (mean, std) = Denoiser(config.width, config.num_blocks), model.scale
    shape = (num_pieces, config.length + 1, mean.shape[0])
    actions = slice(num_obs, -2)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        apply = lambda x, level: network.apply(model.params, x, level)  # noqa: E731
        flat = edm.denoised(apply, x.reshape(num_pieces, -1), sigma)
        pieces = flat.reshape(shape)
        if log_prob is None:
            return pieces
        steps = pieces[:, :-1]  # the last position has no action
        obs = steps[..., :num_obs] * std[:num_obs] + mean[:num_obs]
        action = jnp.tanh(steps[..., actions] * std[actions] + mean[actions])
        slope = std[actions] * (1.0 - action**2)
        guided = edm.tilt(
            action, edm.spread(sigma) * slope**2, lambda a: log_prob(obs, a).sum(-1), guidance
        )
        shift = (inverse_tanh(guided) - inverse_tanh(action)) / std[actions]
        return pieces.at[:, :-1, actions].add(shift)

    return model.scale.from_unit(edm.sample(key, denoise, shape, how))


def save(folder: Path | str, config: Config, model: Model, fingerprint: str) -> None:
    """Save a model to a folder.

    Args:
        folder: where to.
        config: the model's.
        model: the model.
        fingerprint: fingerprint of the dataset that it learned from.
    """
    about = {"diffusion": asdict(config), "dataset": fingerprint}
    about["channels"] = int(model.scale.mean.shape[0])
    checkpoint.save(folder, model, about)


def load(folder: Path | str, fingerprint: str) -> tuple[Config, Model]:
    """Load a model: its config, and what samples are drawn with.

    Args:
        folder: what `save` wrote.
        fingerprint: fingerprint of the dataset that it must have learned from.

    Raises:
        checkpoint.CheckpointError: if it is missing, damaged, no model, or of another dataset.
    """
    about = checkpoint.read_manifest(folder)["info"]
    if "diffusion" not in about:
        raise checkpoint.CheckpointError(f"checkpoint {folder}: it holds no diffusion model")
    if about["dataset"] != fingerprint:
        raise checkpoint.CheckpointError(
            f"checkpoint {folder}: it learned from dataset {about['dataset']}, not {fingerprint}"
        )
    config, channels = Config(**about["diffusion"]), about["channels"]
    network, zeros = Denoiser(config.width, config.num_blocks), jnp.zeros(channels)
    inputs = jnp.zeros((1, (config.length + 1) * channels)), jnp.zeros((1, 1))
    params = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    like = Model(params, jax.eval_shape(lambda: Scale(zeros, zeros)))
    return config, checkpoint.load(folder, like)[0]
