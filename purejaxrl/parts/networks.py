"""Network parts that more than one algorithm uses, and the distributions over actions.

This is the one place that touches distrax, and the one place that initialises orthogonally.
"""

from collections.abc import Callable
from typing import Any, Literal

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from gymnax.environments import spaces

Activation = Literal["tanh", "relu", "silu"]
TorsoKind = Literal["mlp", "cnn"]


def orthogonal(scale: float) -> Callable:
    """Orthogonal initialiser that is safe under vmap.

    A batched QR inside a jitted function deadlocks now and then on CPU (jax 0.10.2, two cores);
    `sequential_vmap` turns the batch into a loop, here and in a user's own `vmap(train)`.
    """
    init = nn.initializers.orthogonal(scale)

    def safe(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.custom_batching.sequential_vmap(lambda key: init(key, shape, dtype))(key)

    return safe


def dense(features: int, scale: float = 2**0.5) -> nn.Dense:
    """Dense layer with orthogonal weights and zero biases."""
    return nn.Dense(features, kernel_init=orthogonal(scale))


class MLP(nn.Module):
    """Perceptron over the last axis: `[..., d] -> [..., hidden[-1]]`."""

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        for width in self.hidden:
            x = getattr(nn, self.activation)(dense(width)(x))
        return x


class CNN(nn.Module):
    """MinAtar's convolutional torso, `[..., h, w, c] -> [..., hidden[-1]]` (Young & Tian 2019)."""

    hidden: tuple[int, ...] = (128,)
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        x = nn.Conv(16, (3, 3), padding="VALID", kernel_init=orthogonal(2**0.5))(x)
        x = getattr(nn, self.activation)(x)
        x = x.reshape(*x.shape[:-3], -1)
        return MLP(self.hidden, self.activation)(x)


def categorical(logits: jax.Array) -> distrax.Categorical:
    """Distribution over actions from logits `[..., num_actions]`."""
    return distrax.Categorical(logits=logits)


def torso(kind: TorsoKind, hidden: tuple[int, ...], activation: Activation) -> nn.Module:
    """Build the torso that a config asks for."""
    return {"mlp": MLP, "cnn": CNN}[kind](hidden, activation)


def check_torso(kind: TorsoKind, obs_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if observations of this shape do not suit the torso."""
    ndim = {"mlp": 1, "cnn": 3}[kind]
    if len(obs_shape) != ndim:
        raise ValueError(
            f"torso: {kind!r} is not valid for observations of shape {obs_shape}; it takes "
            f"{ndim}-dimensional ones (wrap the environment in FlattenObservation for an MLP)"
        )


def torso_for(
    space: spaces.Space, kind: TorsoKind, hidden: tuple[int, ...], activation: Activation
) -> nn.Module:
    """Build the torso that a config asks for, once it is known to suit the observations.

    Raises:
        ValueError: if they are arrays of another dimension.
    """
    if isinstance(space, spaces.Box):
        check_torso(kind, space.shape)
    return torso(kind, hidden, activation)


def num_actions(space: spaces.Space) -> int:
    """How many actions a discrete space has.

    Raises:
        ValueError: if it is not discrete.
    """
    if not isinstance(space, spaces.Discrete):
        raise ValueError(f"action_space: {space!r} is not valid; it must be Discrete")
    return space.n


class PolicyHead(nn.Module):
    """Features to a distribution over actions: categorical, or a diagonal Gaussian.

    The Gaussian's deviation does not depend on the state, and it is unbounded: clip actions in
    the environment (`ClipAction`), so that the likelihood is that of what was sampled.
    """

    action_space: Any  # static: a gymnax space, compared by identity

    @nn.compact
    def __call__(self, features: jax.Array) -> distrax.Distribution:  # noqa: D102
        if isinstance(self.action_space, spaces.Discrete):
            return distrax.Categorical(logits=dense(self.action_space.n, 0.01)(features))
        if isinstance(self.action_space, spaces.Box) and len(self.action_space.shape) == 1:
            mean = dense(self.action_space.shape[0], 0.01)(features)
            log_std = self.param("log_std", nn.initializers.zeros, self.action_space.shape)
            return distrax.MultivariateNormalDiag(
                mean, jnp.broadcast_to(jnp.exp(log_std), mean.shape)
            )
        raise ValueError(
            f"action_space: {self.action_space!r} is not valid; it must be Discrete, or a Box "
            "with one dimension"
        )


class Table(nn.Module):
    """A linear layer over a one-hot row, and the time if there is one, by look-up.

    An observation is `row` or `(row, time)`, int32 and float32 `[...]`; out come `[..., features]`.
    It starts at zero.
    """

    num_rows: int
    features: int

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:  # noqa: D102
        row, *time = obs if isinstance(obs, tuple) else (obs,)
        out = self.param("rows", nn.initializers.zeros, (self.num_rows, self.features))[row]
        if time:
            out += time[0][..., None] * self.param("time", nn.initializers.zeros, (self.features,))
        return out


def readout(space: spaces.Space, torso: nn.Module, features: int, scale: float = 1.0) -> nn.Module:
    """From an observation to `features` numbers: a table where it is a row, else through a torso.

    Args:
        space: of the observations. Discrete, or a Dict with a discrete `row`, is looked up.
        torso: what comes before a linear layer otherwise.
        features: how many numbers.
        scale: of the linear layer's initial weights.
    """
    if isinstance(space, spaces.Dict) and "row" in space.spaces:
        space = space.spaces["row"]
    if isinstance(space, spaces.Discrete):
        return Table(space.n, features)
    return nn.Sequential([torso, dense(features, scale)])


class Actor(nn.Module):
    """Observation to a distribution over actions."""

    torso: nn.Module
    action_space: Any

    @nn.compact
    def __call__(self, obs: jax.Array) -> distrax.Distribution:  # noqa: D102
        return PolicyHead(self.action_space)(self.torso(obs))


class Critic(nn.Module):
    """Observation to its value: `[..., *obs_shape] -> [...]`."""

    torso: nn.Module

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:  # noqa: D102
        return dense(1, 1.0)(self.torso(obs))[..., 0]
