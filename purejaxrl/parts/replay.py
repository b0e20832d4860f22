"""A replay buffer: the latest items, in a ring that is written in place.

It is a field of an algorithm's `State`, named in `Algorithm.in_place`, so that nothing copies it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Replay(NamedTuple):
    """The latest items."""

    contents: Any  # leaves [capacity, ...]
    written: jax.Array  # int32, items written; once full, it cycles from capacity to 2 * capacity

    @classmethod
    def start(cls, items: Any, capacity: int) -> "Replay":
        """Return an empty buffer.

        Args:
            items: arrays or their shapes, leaves `[n, ...]`.
            capacity: items that it holds, a multiple of n.
        """
        zeros = lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype)  # noqa: E731
        return cls(jax.tree.map(zeros, items), jnp.int32(0))

    @property
    def capacity(self) -> int:
        """Items that it holds."""
        return jax.tree.leaves(self.contents)[0].shape[0]

    def write(self, items: Any) -> "Replay":
        """Write items over the oldest ones, leaves `[n, ...]`; n divides the capacity."""
        num_items, at = jax.tree.leaves(items)[0].shape[0], self.written % self.capacity
        put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, at, 0)  # noqa: E731
        written = self.written + num_items  # without the next line it would overflow in long runs
        written = jnp.where(written < 2 * self.capacity, written, written - self.capacity)
        return Replay(jax.tree.map(put, self.contents, items), written)

    def newest(self, num_items: int) -> jax.Array:
        """Return the indices of the newest items, int32 `[num_items]`."""
        return (self.written - num_items + jnp.arange(num_items)) % self.capacity

    def draw(self, key: jax.Array, num_items: int) -> jax.Array:
        """Draw indices of items at random, with replacement, int32 `[num_items]`."""
        num_written = jnp.minimum(self.written, self.capacity)
        return jax.random.randint(key, (num_items,), 0, num_written)

    def read(self, places: jax.Array) -> Any:
        """Read items, leaves `[n, ...]`."""
        return jax.tree.map(lambda x: x[places], self.contents)
