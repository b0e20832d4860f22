"""Lives: how long an agent learns before another takes its place."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def staggered(horizon: jax.Array, index: jax.Array, num_agents: int) -> jax.Array:
    """Cut an agent's first life short, so that lives do not all end at once: int32.

    Args:
        horizon: full length of its life, in updates.
        index: which of the agents it is.
        num_agents: of how many.
    """
    return jnp.maximum(1, -(-horizon * (index + 1) // num_agents)).astype(horizon.dtype)


def select(condition: jax.Array, a: Any, b: Any) -> Any:
    """Choose one of two trees, keys included."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def replace_each(agents: Any, finished: jax.Array, replacement: Callable) -> Any:
    """Replace agents one after the other: it costs as much as there are to replace.

    Args:
        agents: leaves `[num_agents, ...]`.
        finished: bool `[num_agents]`, whom to replace.
        replacement: `(agent) -> agent`.
    """
    order = jnp.argsort(~finished, stable=True)  # the finished first

    def replace(i: jax.Array, agents: Any) -> Any:
        take = lambda x: jax.lax.dynamic_index_in_dim(x, order[i], keepdims=False)  # noqa: E731
        put = lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, order[i], 0)  # noqa: E731
        return jax.tree.map(put, agents, replacement(jax.tree.map(take, agents)))

    return jax.lax.fori_loop(0, finished.sum(), replace, agents)
