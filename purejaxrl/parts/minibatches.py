"""Epochs of shuffled minibatches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Step = Callable[[Any, Any], tuple[Any, Any]]
"""`(carry, minibatch) -> (carry, output)`: one gradient step."""


def shuffled(key: jax.Array, size: int, times: int) -> jax.Array:
    """Draw permutations of `range(size)`: int32 `[times, size]`.

    It sorts integers whose high bits are random and whose low bits are the index. That is ten times
    faster on a CPU than `jax.random.permutation`, which sorts two arrays with a comparator.

    Items with equal random bits stay side by side, in ascending order. If the size is a power of
    two, each value of the bits belongs to size² / 2³² items on average: to 1 of 2**16 items, and to
    65,536 of 2**24. For other sizes it belongs to less than twice as many. That hardly changes
    which items share a minibatch, if minibatches are larger than this number.

    Args:
        key: typed key.
        size: up to 2**24.
        times: number of permutations.

    Raises:
        ValueError: if the size leaves too few random bits.
    """
    if not 1 <= size <= 2**24:
        raise ValueError(f"size: {size} is not valid; it must be an integer in 1 ... 2**24")
    index = jnp.arange(size, dtype=jnp.uint32)
    mask = jnp.uint32(2 ** (size - 1).bit_length() - 1)
    bits = jax.random.bits(key, (times, size), jnp.uint32)
    return (jnp.sort(bits & ~mask | index, axis=-1) & mask).astype(jnp.int32)


def minibatch_epochs(
    key: jax.Array,
    step: Step,
    carry: Any,
    batch: Any,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Any, Any]:
    """Pass over a batch several times, each time in a new order, one minibatch after the other.

    Args:
        key: typed key.
        step: one gradient step.
        carry: what is trained.
        batch: leaves `[size, ...]`.
        num_epochs: passes over the batch.
        num_minibatches: minibatches per pass; divides `size`.

    Returns:
        The carry, and the outputs stacked to `[num_epochs * num_minibatches, ...]`.

    Raises:
        ValueError: if the minibatches would differ in size.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if num_minibatches < 1 or size % num_minibatches:
        raise ValueError(
            f"num_minibatches: {num_minibatches} is not valid; it must be a divisor of the batch "
            f"size, {size}"
        )
    orders = shuffled(key, size, num_epochs)
    return jax.lax.scan(
        lambda carry, order: step(carry, jax.tree.map(lambda x: x[order], batch)),
        carry,
        orders.reshape(num_epochs * num_minibatches, -1),
    )
