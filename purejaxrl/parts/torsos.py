"""The torso of a network: the one that a config names, or any flax module that is given.

A given module is checked where the algorithm is made, from shapes alone: nothing is compiled.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.parts import networks
from purejaxrl.parts.recurrent import Recurrent


def torso_for(config: Any, env: Any, torso: nn.Module | None = None) -> nn.Module | None:
    """Return the torso that is given, or build the one that a config names.

    Args:
        config: has the fields `torso`, `hidden` and `activation`, and may have `layer_norm`.
        env: gymnax environment, whose observations the torso reads.
        torso: the one to use instead of the config's.

    Returns:
        The torso; None if none is given and the observations index a table.

    Raises:
        ValueError: if the torso cannot read the observations, or does not return features.
    """
    if torso is not None:
        check_features(torso, env)
        return torso
    space = env.observation_space(env.default_params)
    if networks.num_rows(space) is not None:
        return None
    networks.check_torso(config.torso, networks.obs_shape(space))
    layer_norm = getattr(config, "layer_norm", False)
    return networks.build_torso(config.torso, config.hidden, config.activation, layer_norm)


def check_features(torso: nn.Module, env: Any) -> None:
    """Raise a ValueError unless a torso maps observations to features, float `[..., width]`."""
    if is_recurrent(torso):
        raise ValueError(
            f"torso: {type(torso).__name__} is not valid; it has a memory, and this algorithm "
            "carries none"
        )
    for leading in ((2,), (3, 2)):
        require_features(torso, output_shapes(torso, batch_of_observations(env, leading)), leading)


def require_features(torso: nn.Module, output: Any, leading: tuple[int, ...]) -> None:
    """Raise a ValueError unless a torso's output is features, float `[*leading, width]`.

    Args:
        torso: the torso.
        output: shapes and dtypes of its output.
        leading: leading axes of its inputs.
    """
    is_array = isinstance(output, jax.ShapeDtypeStruct)
    is_float = is_array and jnp.issubdtype(output.dtype, jnp.floating)
    if not is_float or output.ndim != len(leading) + 1 or output.shape[:-1] != leading:
        raise ValueError(
            f"torso: {type(torso).__name__} is not valid; it must return features, float "
            f"({', '.join(map(str, leading))}, width), and it returns {describe_arrays(output)}"
        )


def describe_arrays(tree: Any) -> str:
    """Say the dtype and the shape of every leaf, by its path: `keys: float32(2, 4)`."""
    named = (
        (jax.tree_util.keystr(path, simple=True, separator="/"), f"{x.dtype}{x.shape}")
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    )
    return ", ".join(f"{name}: {array}" if name else array for name, array in named) or "nothing"


def batch_of_observations(env: Any, leading: tuple[int, ...]) -> Any:
    """Return the shapes of an environment's observations in a batch: leaves `[*leading, ...]`."""
    obs, _ = jax.eval_shape(env.reset, jax.random.key(0), env.default_params)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*leading, *x.shape), x.dtype), obs)


def output_shapes(torso: nn.Module, *inputs: Any) -> Any:
    """Compute the shapes and dtypes of a torso's outputs, and compile nothing.

    Raises:
        ValueError: if it is no flax module, or cannot read the inputs.
    """
    if not isinstance(torso, nn.Module):
        raise ValueError(f"torso: {torso!r} is not valid; it must be an instance of a flax module")
    try:
        outputs, _ = jax.eval_shape(torso.init_with_output, jax.random.key(0), *inputs)
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"torso: {type(torso).__name__} is not valid for inputs {describe_arrays(inputs)}: "
            f"{error}"
        ) from error
    return outputs


def is_recurrent(torso: Any) -> bool:
    """Whether a torso has a memory of its own."""
    return hasattr(torso, "initial_memory")


def check_recurrent(torso: Recurrent, env: Any) -> None:
    """Raise a ValueError unless a torso follows `Recurrent` on an environment's observations."""
    name, num_envs = type(torso).__name__, 2
    before = jax.eval_shape(lambda: torso.initial_memory(num_envs))
    if any(x.shape[:1] != (num_envs,) for x in jax.tree.leaves(before)):
        raise ValueError(
            f"torso: {name} is not valid; its initial memory must have leaves of shape "
            f"(num_envs, ...), and for {num_envs} environments it is {describe_arrays(before)}"
        )
    for leading in ((1, num_envs), (3, num_envs)):
        first = jax.ShapeDtypeStruct(leading, bool)
        outputs = output_shapes(torso, before, batch_of_observations(env, leading), first)
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise ValueError(f"torso: {name} is not valid; it must return (memory, features)")
        after, features = outputs
        same = jax.tree.structure(after) == jax.tree.structure(before)
        if not same or describe_arrays(after) != describe_arrays(before):
            raise ValueError(
                f"torso: {name} is not valid; its memory must keep its structure, shapes and "
                f"dtypes: at first it is {describe_arrays(before)}, and after {leading[0]} steps "
                f"{describe_arrays(after)}"
            )
        require_features(torso, features, leading)
