"""A check that an environment keeps gymnax's interface, without running it."""

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment

from purejaxrl.parts.wrappers import Restarting, unwrapped


def check_env(env: Any, env_params: Any) -> None:
    """Raise a ValueError that names what an environment returns and what it should.

    Only shapes are computed. Algorithms call it when training is traced.

    Args:
        env: gymnax 1.x environment.
        env_params: a level, or its shapes.
    """
    inside = unwrapped(env)
    if type(inside).step not in (Environment.step, Restarting.step):
        return  # it resets by itself, and need not have these methods
    name = type(inside).__name__
    key = jax.eval_shape(lambda: jax.random.key(0))

    def call(method: str, *args: Any) -> Any:
        try:
            return jax.eval_shape(getattr(env, method), *args)
        except NotImplementedError as error:
            raise ValueError(f"{name}: it has no method {method!r}, and needs one") from error

    obs, state = _parts(f"{name}.reset_env", call("reset_env", key, env_params), "obs, state")
    action = jax.eval_shape(env.action_space(env_params).sample, key)
    stepped = call("step_env", key, state, action, env_params)
    names = "obs, state, reward, terminated, info"
    next_obs, next_state, reward, terminated, _ = _parts(f"{name}.step_env", stepped, names)
    truncated = call("is_truncated", next_state, env_params)
    after = {"step_env": (next_obs, next_state)}
    if isinstance(inside, Restarting):
        again = call("restart", next_state, env_params)
        after["restart"] = _parts(f"{name}.restart", again, "obs, state")
    for method, (other_obs, other_state) in after.items():
        _require_alike(f"{name}.{method}", "observation", obs, other_obs)
        _require_alike(f"{name}.{method}", "state", state, other_state)
    _require_scalar(f"{name}.step_env", "reward", reward, jnp.number, "a number")
    _require_scalar(f"{name}.step_env", "terminated", terminated, jnp.bool_, "a bool")
    _require_scalar(f"{name}.is_truncated", "truncated", truncated, jnp.bool_, "a bool")


def _parts(method: str, found: Any, names: str) -> tuple:
    count = len(names.split(", "))
    if not isinstance(found, tuple) or len(found) != count:
        number = f"{len(found)} values" if isinstance(found, tuple) else "one value"
        raise ValueError(f"{method}: {number} returned; it must return ({names})")
    return found


def _require_alike(method: str, what: str, first: Any, found: Any) -> None:
    """Require the structure, shapes and dtypes of what `reset_env` returned."""
    expected, leaves = (
        {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (first, found)
    )
    if jax.tree.structure(first) != jax.tree.structure(found):
        raise ValueError(
            f"{method}: the {what} has parts {_names(leaves)}, and from reset_env "
            f"{_names(expected)}; they must be the same"
        )
    for part, x in leaves.items():
        if (x.shape, x.dtype) != (expected[part].shape, expected[part].dtype):
            raise ValueError(
                f"{method}: the {what}{part} is {_describe(x)}, and from reset_env "
                f"{_describe(expected[part])}; they must be the same"
            )


def _require_scalar(method: str, what: str, found: Any, kind: Any, expected: str) -> None:
    is_array = hasattr(found, "shape") and hasattr(found, "dtype")
    if not is_array or found.shape != () or not jnp.issubdtype(found.dtype, kind):
        is_now = _describe(found) if is_array else f"a {type(found).__name__}"
        raise ValueError(f"{method}: {what} is {is_now}; it must be {expected} of shape ()")


def _names(leaves: dict[str, Any]) -> str:
    return ", ".join(part or "one array" for part in leaves) or "none"


def _describe(x: Any) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
