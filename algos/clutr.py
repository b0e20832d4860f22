"""CLUTR: curricula by latent tasks (Azad et al. 2023, arXiv 2210.10243).

A fork of `paired.py` whose teacher does not build a level step by step. A recurrent variational
autoencoder first learns to encode and decode random levels, as sequences of tokens. Then it is
frozen, and the teacher chooses a point of its latent space, with one action:

    learn the autoencoder on random levels                  # `make_autoencoder`: a run of its own
    fit a Gaussian to their latents                         # `locate`
    PAIRED, with a teacher whose only action is z           # `Latents`, in a `Builder`
        the level is decoded from z greedily: the likeliest token at each place

As published, tokens come in a fixed order, so that a level is one sequence. Networks are GRUs with
learned positions, and the posterior's weight in the loss does not change during training. Latents
of random levels are not quite N(0, 1), so a Gaussian is fitted to them (Ghosh et al. 2020, arXiv
1903.12436): the teacher's actions are standardised, and N(0, 1) actions make such levels.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from gymnax.environments import spaces

from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, no_steps, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import optimizers
from purejaxrl.parts.networks import ILLEGAL, check_params, dense
from purejaxrl.parts.recurrent import GRU
from purejaxrl.parts.wrappers import Restarting
from purejaxrl.running import checkpoint
from purejaxrl.validation import hyper, require_count

BOUND = 4.0
"""Greatest absolute action of a teacher, in standard deviations of the latents."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    vocabulary: int
    """Number of different tokens."""
    length: int
    """Tokens of a level."""
    latent: int = 128
    """Size of a level's latent, and so of the teacher's action."""
    embedding: int = 64
    """Width of a token's embedding."""
    hidden: int = 128
    """Width of each GRU."""
    batch_size: int = 64
    """Levels of one update."""

    def __post_init__(self):
        fields = ("vocabulary", "length", "latent", "embedding", "hidden", "batch_size")
        require_count(self, *fields)


class Hypers(struct.PyTreeNode):
    """Hyperparameters of the autoencoder, which can be vmapped or swept. Traced."""

    learning_rate: float = hyper(1e-2, at_least=0)
    """Adam's step size, annealed to 0."""
    max_grad_norm: float = hyper(1.0, above=0, infinite=True)
    """Global norm to which gradients are clipped; inf for no clipping."""
    kl_coef: float = hyper(0.1, at_least=0)
    """Weight of the posterior's divergence from N(0, 1), beside the log-likelihood of all tokens.
    At 1, the decoder may learn to ignore the latent."""


class State(NamedTuple):
    """An autoencoder in training."""

    params: Any
    opt_state: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Model(NamedTuple):
    """An autoencoder, and where the latents of random levels are: N(mean, root rootᵀ)."""

    params: Any
    mean: jax.Array  # float32 [latent]
    root: jax.Array  # float32 [latent, latent], lower triangular

    def latent(self, action: jax.Array) -> jax.Array:
        """Return the latent of a standardised action, `[latent]`."""
        return self.mean + self.root @ action


class Autoencoder(nn.Module):
    """Maps tokens to a latent and back; all sequences are time-first, `[length, n]`."""

    config: Config

    def setup(self):  # noqa: D102
        config = self.config
        self.embed = nn.Embed(config.vocabulary + 1, config.embedding)  # the last: no token
        self.position = nn.Embed(config.length, config.embedding)
        self.forward, self.backward = GRU(config.hidden), GRU(config.hidden)
        self.posterior = dense(2 * config.latent, 0.1)
        self.begin, self.decoder = dense(config.hidden), GRU(config.hidden)
        self.logits = dense(config.vocabulary, 0.01)

    def encode(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return mean and standard deviation of the posterior, float32 `[n, latent]` each."""
        inputs = self.embed(tokens) + self.position.embedding[:, None]
        first = jnp.zeros(tokens.shape, bool)
        memory = self.forward.initial_memory(tokens.shape[1])
        _, ahead = self.forward(memory, inputs, first)
        _, back = self.backward(memory, inputs[::-1], first)
        seen = jnp.concatenate([ahead.sum(0), back.sum(0)], axis=-1) / tokens.shape[0] ** 0.5
        mean, log_std = jnp.split(self.posterior(seen), 2, axis=-1)
        return mean, jnp.exp(log_std)

    def decode(self, z: jax.Array, tokens: jax.Array) -> jax.Array:
        """Return the logits of each token, given those before it: `[length, n, vocabulary]`."""
        before = jnp.roll(tokens, 1, axis=0).at[0].set(self.config.vocabulary)
        where = jnp.broadcast_to(jnp.arange(tokens.shape[0])[:, None], tokens.shape)
        return self.next_tokens(self.start(z), z, before, where)[1]

    def start(self, z: jax.Array) -> jax.Array:
        """Return the decoder's memory before the first token."""
        return jnp.tanh(self.begin(z))

    def next_tokens(self, memory: jax.Array, z: jax.Array, before: jax.Array, where: jax.Array):
        """Read the tokens `before`, `[T, n]`, and return the memory and logits `[T, n, ...]`."""
        inputs = self.embed(before) + self.position(where)
        z = jnp.broadcast_to(z, (*before.shape, z.shape[-1]))
        inputs = jnp.concatenate([inputs, z], axis=-1)
        memory, features = self.decoder(memory, inputs, jnp.zeros(before.shape, bool))
        return memory, self.logits(jnp.concatenate([features, z], axis=-1))

    def __call__(self, tokens: jax.Array) -> jax.Array:  # noqa: D102
        mean, _ = self.encode(tokens)
        return self.decode(mean, tokens)


def reconstruct(config: Config, allowed: np.ndarray, params: Any, tokens: jax.Array) -> jax.Array:
    """Encode levels `[n, length]`, and decode the means of their latents."""
    mean, _ = Autoencoder(config).apply(params, tokens.T, method="encode")
    return read(config, allowed, params, mean)


def read(config: Config, allowed: np.ndarray, params: Any, z: jax.Array) -> jax.Array:
    """Decode levels from their latents greedily: the likeliest token at each place.

    Args:
        config: the autoencoder's.
        allowed: bool `[length, vocabulary]`, the tokens that may be in each place.
        params: the autoencoder's.
        z: float32 `[n, latent]`.

    Returns:
        Tokens, int32 `[n, length]`.
    """
    network = Autoencoder(config)

    def step(carry: tuple, at: tuple):
        memory, before = carry
        where, allowed = at
        here = jnp.full((1, before.size), where)
        memory, logits = network.apply(params, memory, z, before[None], here, method="next_tokens")
        token = jnp.where(allowed, logits[0], ILLEGAL).argmax(-1).astype(jnp.int32)
        return (memory, token), token

    nothing = jnp.full(z.shape[0], config.vocabulary, jnp.int32)
    start = network.apply(params, z, method="start"), nothing
    return jax.lax.scan(step, start, (jnp.arange(config.length), jnp.asarray(allowed)))[1].T


def locate(config: Config, params: Any, tokens: jax.Array) -> Model:
    """Fit a Gaussian to the latents of levels `[n, length]`, n well above the latent's size."""
    mean, std = Autoencoder(config).apply(params, tokens.T, method="encode")
    covariance = jnp.cov(mean.T) + jnp.diag((std**2).mean(0))
    return Model(params, mean.mean(0), jnp.linalg.cholesky(covariance))


def shape_of(config: Config) -> Model:
    """Return the shapes and dtypes of a model."""
    tokens = jnp.zeros((config.length, 2), jnp.int32)
    params = jax.eval_shape(Autoencoder(config).init, jax.random.key(0), tokens)
    return jax.eval_shape(partial(locate, config), params, tokens.T)


def make_autoencoder(config: Config, sample_tokens: Callable[[jax.Array], jax.Array]) -> Algorithm:
    """Make the first stage: an `Algorithm` that learns to encode and decode levels.

    Args:
        config: static settings.
        sample_tokens: draws a random level, as tokens int32 `[length]`.

    Raises:
        ValueError: if the tokens are not as the config says.
    """
    drawn = jax.eval_shape(sample_tokens, jax.random.key(0))
    if drawn.shape != (config.length,):
        raise ValueError(
            f"Config.length: {config.length} is not valid; levels have {drawn.shape} tokens"
        )
    network = Autoencoder(config)

    def optimizer(hypers: Hypers, age: jax.Array) -> optax.GradientTransformation:
        rate = hypers.learning_rate * (1 - age)
        return optax.chain(
            optimizers.clip_by_global_norm(hypers.max_grad_norm), optimizers.adam(rate)
        )

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        params_key, key = jax.random.split(key)
        params = network.init(params_key, jnp.zeros((config.length, 1), jnp.int32))
        opt_state = optimizer(hypers, jnp.float32(0)).init(params)
        return State(params, opt_state, task, key, jnp.int32(0))

    def collect(state: State, hypers: Hypers) -> tuple[State, jax.Array]:
        level_key, key = jax.random.split(state.key)
        keys = jax.random.split(level_key, config.batch_size)
        return state._replace(key=key), jax.vmap(sample_tokens)(keys)

    def loss(params: Any, key: jax.Array, tokens: jax.Array, hypers: Hypers):
        mean, std = network.apply(params, tokens, method="encode")
        z = mean + std * jax.random.normal(key, mean.shape)
        logits = network.apply(params, z, tokens, method="decode")
        error = optax.softmax_cross_entropy_with_integer_labels(logits, tokens).sum(0).mean()
        divergence = 0.5 * (mean**2 + std**2 - 1 - 2 * jnp.log(std)).sum(-1).mean()
        correct = (logits.argmax(-1) == tokens).mean()
        total = error + hypers.kl_coef * divergence
        return total, {"loss": total, "error": error, "kl": divergence, "correct": correct}

    def learn(state: State, hypers: Hypers, tokens: jax.Array) -> tuple[State, Metrics]:
        noise_key, key = jax.random.split(state.key)
        age = age_of(state)
        grads, metrics = jax.grad(loss, has_aux=True)(state.params, noise_key, tokens.T, hypers)
        updates, opt_state = optimizer(hypers, age).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = State(params, opt_state, state.task, key, state.step + 1)
        return state, no_steps() | metrics

    return Algorithm(
        config, init, collect, learn, lambda state: state.params,
        vital=vital_losses("loss"), steps_per_update=0, made_of=part_names(sample_tokens),
    )  # fmt: skip


@struct.dataclass
class LatentParams:
    """The frozen autoencoder, and the length of an episode."""

    model: Model
    max_steps_in_episode: jax.Array  # int32, 1


class Latents(Restarting):
    """An environment of one step, in which an action z makes a level; wrap it in a `Builder`."""

    name = "latents"

    def __init__(
        self,
        config: Config,
        model: Model,
        read_level: Callable[[jax.Array], Any],
        allowed: np.ndarray,
    ):
        """Make an environment.

        Args:
            config: the autoencoder's.
            model: the autoencoder, and where latents are.
            read_level: makes a level of tokens `[length]`.
            allowed: bool `[length, vocabulary]`, the tokens that may be in each place.

        Raises:
            ValueError: if the autoencoder is for other levels.
        """
        super().__init__()
        if allowed.shape != (config.length, config.vocabulary):
            raise ValueError(
                f"autoencoder: {config.length} tokens of {config.vocabulary} kinds are not valid; "
                f"levels have {allowed.shape[0]} tokens of {allowed.shape[1]} kinds"
            )
        check_params("autoencoder", model, shape_of(config), "which `locate` returns")
        self.config, self.model = config, model
        self.read_level, self.allowed = read_level, allowed

    @property
    def default_params(self) -> LatentParams:
        """The autoencoder."""
        return LatentParams(self.model, jnp.int32(1))

    def reset_env(self, key: jax.Array, params: LatentParams) -> tuple[jax.Array, jax.Array]:
        """Start an episode; there is nothing to see."""
        return self.restart(None, params)

    def restart(self, state: Any, params: LatentParams) -> tuple[jax.Array, jax.Array]:
        """Start an episode; the state is the time."""
        return jnp.zeros(0), jnp.int32(0)

    def step_env(self, key: jax.Array, state: jax.Array, action: jax.Array, params: LatentParams):
        """Make the level."""
        z = params.model.latent(jnp.clip(action, -BOUND, BOUND))
        (tokens,) = read(self.config, self.allowed, params.model.params, z[None])
        info = {"level": self.read_level(tokens)}
        return jnp.zeros(0), state + 1, jnp.float32(0), jnp.bool_(True), info

    def is_truncated(self, state: jax.Array, params: LatentParams) -> jax.Array:
        """Never: the only step terminates."""
        return jnp.bool_(False)

    def action_space(self, params: LatentParams | None = None) -> spaces.Box:
        """The latent."""
        return spaces.Box(-BOUND, BOUND, (self.config.latent,))

    def observation_space(self, params: LatentParams | None = None) -> spaces.Box:
        """Nothing."""
        return spaces.Box(0.0, 1.0, (0,))


def save(folder: Path | str, config: Config, model: Model) -> None:
    """Save an autoencoder to a folder."""
    checkpoint.save(folder, model, {"autoencoder": asdict(config)})


def load(folder: Path | str) -> tuple[Config, Model]:
    """Load an autoencoder: its config, and the model.

    Raises:
        checkpoint.CheckpointError: if it is missing, damaged, or not an autoencoder.
    """
    about = checkpoint.read_manifest(folder)["info"].get("autoencoder")
    if about is None:
        raise checkpoint.CheckpointError(f"checkpoint {folder}: it holds no autoencoder")
    config = Config(**about)
    return config, checkpoint.load(folder, shape_of(config))[0]
