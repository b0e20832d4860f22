"""Epochs of shuffled minibatches."""

from collections.abc import Callable
from typing import Any

import jax


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
        The carry, and the outputs stacked to `[num_epochs, num_minibatches, ...]`.
    """
    size = jax.tree.leaves(batch)[0].shape[0]

    def epoch(carry, key):
        order = jax.random.permutation(key, size)
        minibatches = jax.tree.map(
            lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), batch
        )
        return jax.lax.scan(step, carry, minibatches)

    return jax.lax.scan(epoch, carry, jax.random.split(key, num_epochs))
