"""Epochs of shuffled minibatches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def shuffled(key: jax.Array, size: int, times: int) -> jax.Array:
    """Orders of `range(size)`, each drawn anew: int32 `[times, size]`.

    Sorts one array, random bits above and the index below, where `jax.random.permutation` sorts
    two with a comparator; a CPU does the former ten times faster. Items whose bits happen to
    agree (the more, the larger `size`) stand side by side in ascending order, which decides
    nothing about who shares a minibatch unless it falls on a boundary.

    Args:
        key: typed key.
        size: up to 2**24.
        times: how many orders.
    """
    if not 1 <= size <= 2**24:
        raise ValueError(f"size: {size} is not valid; it must be an integer in 1 ... 2**24")
    index = jnp.arange(size, dtype=jnp.uint32)
    mask = jnp.uint32(2 ** (size - 1).bit_length() - 1)
    bits = jax.random.bits(key, (times, size), jnp.uint32)
    return (jnp.sort(bits & ~mask | index, axis=-1) & mask).astype(jnp.int32)


def minibatch_epochs(
    key: jax.Array,
    step: Callable,
    carry: Any,
    batch: Any,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Any, Any]:
    """Go through a batch several times, each time in a new order, a minibatch at a time.

    Args:
        key: typed key.
        step: `(carry, minibatch) -> (carry, output)`, one gradient step.
        carry: what is trained.
        batch: leaves `[size, ...]`; `num_minibatches` divides `size`.
        num_epochs, num_minibatches: how often, in how many parts.

    Returns:
        The carry, and the outputs stacked to `[num_epochs * num_minibatches, ...]`.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    orders = shuffled(key, size, num_epochs)
    return jax.lax.scan(
        lambda carry, order: step(carry, jax.tree.map(lambda x: x[order], batch)),
        carry,
        orders.reshape(num_epochs * num_minibatches, -1),
    )
