"""Network parts that more than one algorithm uses, and the distributions over actions.

This is the only file that uses distrax.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from purejaxrl.validation import is_count, require, require_choice

Activation = Literal["tanh", "relu", "silu"]
TorsoKind = Literal["mlp", "cnn"]
Distribution = distrax.Distribution


def check_network(config: Any) -> None:
    """Raise a ValueError unless a config's `torso`, `hidden` and `activation` are valid."""
    require_choice(config, "torso", get_args(TorsoKind))
    check_layers(config)


def check_layers(config: Any) -> None:
    """Raise a ValueError unless a config's `hidden` and `activation` are valid."""
    require_choice(config, "activation", get_args(Activation))
    valid = isinstance(config.hidden, tuple) and config.hidden and all(map(is_count, config.hidden))
    require(valid, config, "hidden", "one or more widths >= 1, integers in a tuple")


def orthogonal(scale: float) -> jax.nn.initializers.Initializer:
    """Make an orthogonal initialiser that is safe under vmap.

    A batched QR inside a jitted function deadlocks now and then on CPU (jax 0.10.2, two cores);
    `sequential_vmap` turns the batch into a loop, here and in a user's own `vmap(train)`. On an
    accelerator thousands of members would wait for that loop.
    """
    init = nn.initializers.orthogonal(scale)

    def safe(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        if jax.default_backend() != "cpu":
            return init(key, shape, dtype)
        return jax.custom_batching.sequential_vmap(lambda key: init(key, shape, dtype))(key)

    return safe


def dense(features: int, scale: float = 2**0.5) -> nn.Dense:
    """Make a dense layer with orthogonal weights and zero biases."""
    return nn.Dense(features, kernel_init=orthogonal(scale))


class MLP(nn.Module):
    """Perceptron over the last axis: `[..., d] -> [..., hidden[-1]]`."""

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    layer_norm: bool = False  # normalise before every nonlinearity

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        for width in self.hidden:
            x = dense(width)(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = getattr(nn, self.activation)(x)
        return x


def convolve(
    images: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **_: Any
) -> jax.Array:
    """Convolve images with stride 1 and no padding, as one product of matrices.

    Inside a loop XLA's own convolution takes five times as long on a CPU, and seven times if it is
    vmapped over kernels (a gradient step on 128 images of MinAtar: 27 and 37 ms, here 5 and 6).

    Args:
        images: `[batch, h, w, channels]`.
        kernel: `[rows, columns, channels, features]`.
        strides, padding: flax passes them; they are ignored.
    """
    rows, columns, _, features = kernel.shape
    height, width = images.shape[1] - rows + 1, images.shape[2] - columns + 1
    shifted = [
        images[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)
    ]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, features)


class CNN(nn.Module):
    """MinAtar's convolutional torso, `[..., h, w, c] -> [..., hidden[-1]]` (Young & Tian 2019)."""

    hidden: tuple[int, ...] = (128,)
    activation: Activation = "relu"
    layer_norm: bool = False  # of the convolution, over channels and places together

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        x = nn.Conv(
            16, (3, 3), padding="VALID", kernel_init=orthogonal(2**0.5),
            conv_general_dilated=convolve,
        )(x)  # fmt: skip
        x = x.reshape(*x.shape[:-3], -1)
        x = nn.LayerNorm()(x) if self.layer_norm else x
        x = getattr(nn, self.activation)(x)
        return MLP(self.hidden, self.activation, self.layer_norm)(x)


def categorical(logits: jax.Array) -> distrax.Categorical:
    """Make a distribution over actions from logits `[..., num_actions]`."""
    return distrax.Categorical(logits=logits)


def build_torso(
    kind: TorsoKind, hidden: tuple[int, ...], activation: Activation, layer_norm: bool = False
) -> nn.Module:
    """Build the torso that a config names."""
    return {"mlp": MLP, "cnn": CNN}[kind](hidden, activation, layer_norm)


def check_torso(kind: TorsoKind, obs_shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless the torso can read observations of this shape."""
    ndim = {"mlp": 1, "cnn": 3}[kind]
    hint = " (parts.wrappers.for_network makes them)" if kind == "mlp" else ""
    if len(obs_shape) != ndim:
        raise ValueError(
            f"torso: {kind!r} is not valid for observations of shape {obs_shape}; it takes "
            f"{ndim}-dimensional ones" + hint
        )


def obs_shape(space: spaces.Space) -> tuple[int, ...]:
    """Return the shape of observations that a network reads.

    Raises:
        ValueError: if they are not arrays.
    """
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"observation_space: {describe_space(space)} is not valid; it must be a Box "
            "(parts.wrappers.for_network makes one), because a network reads the observations"
        )
    return space.shape


def describe_space(space: spaces.Space) -> str:
    """Name a space: `Dict(row, time)`, `Discrete(5)`."""
    if isinstance(space, spaces.Dict):
        return f"Dict({', '.join(space.spaces)})"
    if isinstance(space, spaces.Discrete):
        return f"Discrete({space.n})"
    return f"{type(space).__name__}{getattr(space, 'shape', '')}"


def num_rows(space: spaces.Space) -> int | None:
    """Count the rows of the table that observations index; None if they index none.

    Observations index a table if their space is Discrete, or a Dict with a discrete `row`.
    """
    if isinstance(space, spaces.Dict) and "row" in space.spaces:
        space = space.spaces["row"]
    return space.n if isinstance(space, spaces.Discrete) else None


class MaskedDiscrete(spaces.Discrete):
    """Actions of which some are illegal at times.

    Observations are vectors. Their last `n` entries say which actions are legal (1) and which are
    not (0).
    """


ILLEGAL = -1e9
"""The logit of an illegal action: finite, so that entropies and their gradients stay finite."""


def is_discrete(env: Any) -> bool:
    """Whether an environment's actions are discrete."""
    return isinstance(env.action_space(env.default_params), spaces.Discrete)


def num_actions(space: spaces.Space) -> int:
    """Count the actions of a discrete space, all of which are legal.

    Raises:
        ValueError: if it is not discrete, or some actions may be illegal.
    """
    if isinstance(space, MaskedDiscrete):
        raise ValueError(
            f"action_space: MaskedDiscrete({space.n}) is not valid; some of its actions are "
            "illegal at times, which PPO heeds but this algorithm does not"
        )
    if not isinstance(space, spaces.Discrete):
        raise ValueError(f"action_space: {describe_space(space)} is not valid; it must be Discrete")
    return space.n


def check_action_space(space: spaces.Space, normalize_obs: bool = False) -> None:
    """Raise a ValueError unless a `PolicyHead` has a distribution over the actions."""
    if normalize_obs and isinstance(space, MaskedDiscrete):
        raise ValueError(
            "normalize_obs: True is not valid; observations say which actions are legal, and "
            "would no longer be 0 and 1"
        )
    is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1
    if not isinstance(space, spaces.Discrete) and not is_vector:
        raise ValueError(
            f"action_space: {describe_space(space)} is not valid; it must be Discrete, or a Box "
            "with one dimension"
        )


class PolicyHead(nn.Module):
    """Maps features to a distribution over actions: categorical, or a diagonal Gaussian.

    Illegal actions of a `MaskedDiscrete` space have probability 0. The Gaussian's standard
    deviation does not depend on the state. Its samples are unbounded: clip them in the environment
    (`ClipAction`), so that log-probabilities are those of the samples.
    """

    action_space: Any  # static: a gymnax space, compared by identity

    @nn.compact
    def __call__(self, features: jax.Array, obs: jax.Array) -> Distribution:  # noqa: D102
        space = self.action_space
        check_action_space(space)
        if isinstance(space, spaces.Discrete):
            logits = dense(space.n, 0.01)(features)
            if isinstance(space, MaskedDiscrete):
                logits = jnp.where(obs[..., -space.n :] > 0, logits, ILLEGAL)
            return distrax.Categorical(logits=logits)
        mean = dense(self.action_space.shape[0], 0.01)(features)
        log_std = self.param("log_std", nn.initializers.zeros, self.action_space.shape)
        return distrax.MultivariateNormalDiag(mean, jnp.broadcast_to(jnp.exp(log_std), mean.shape))


class Table(nn.Module):
    """A linear layer over a one-hot row, computed by look-up; its weights start at zero.

    It maps observations to `[..., features]`. An observation is `row`, int32 `[...]`, or
    `(row, time)` with `time` float32 `[...]`, which gets a weight for each feature.
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


def readout(
    space: spaces.Space, torso: nn.Module | None, features: int, scale: float = 1.0
) -> nn.Module:
    """Make a module from observations to `[..., features]`: a table, or a torso and a linear layer.

    Args:
        space: the space of the observations.
        torso: the network under the linear layer; None for a table that observations index.
        features: number of outputs.
        scale: scale of the linear layer's initial weights.
    """
    if torso is None:
        return Table(num_rows(space), features)
    return nn.Sequential([torso, dense(features, scale)])


class PolicyNetwork(nn.Module):
    """Maps observations to a distribution over actions."""

    torso: nn.Module
    action_space: Any

    @nn.compact
    def __call__(self, obs: jax.Array) -> Distribution:  # noqa: D102
        return PolicyHead(self.action_space)(self.torso(obs), obs)


class ValueNetwork(nn.Module):
    """Maps observations to values: `[..., *obs_shape] -> [...]`."""

    torso: nn.Module

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:  # noqa: D102
        return dense(1, 1.0)(self.torso(obs))[..., 0]


def check_made_by(
    init: Callable[[jax.Array, Any], Any], field: str, params: Any, config: Any
) -> None:
    """Raise a ValueError unless parameters are like those that `init(key, config)` makes.

    Args:
        init: draws the parameters of an untrained rule.
        field, params: as of `check_params`.
        config: of the rule.
    """
    expected = jax.eval_shape(lambda: init(jax.random.key(0), config))
    source = f"as `{init.__name__}` makes it for this config; `load_rule` returns it and its config"
    check_params(field, params, expected, source)


def check_params(field: str, params: Any, expected: Any, source: str) -> None:
    """Raise a ValueError unless parameters have the structure and the shapes of others.

    Args:
        field: the name of the parameters in the error, such as `Hypers.rule`.
        params: a pytree of arrays.
        expected: a pytree of arrays or of `ShapeDtypeStruct`.
        source: where valid ones come from, for the error.
    """
    shapes = lambda tree: {  # noqa: E731
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    found, wanted = shapes(params), shapes(expected)
    if found.keys() != wanted.keys():
        value = "None" if params is None else f"a tree of {', '.join(found) or 'nothing'}"
        raise ValueError(
            f"{field}: {value} is not valid; it must be a tree of {', '.join(wanted)}, {source}"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ValueError(
                f"{field}: {name} of shape {found[name]} is not valid; it must have shape "
                f"{shape}, {source}"
            )
