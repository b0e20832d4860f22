"""A branch that costs nothing where nobody takes it, under vmap too."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")


def compute_if(needed: jax.Array, compute: Callable[[], T], otherwise: T) -> T:
    """Compute a value if it is needed; under vmap, for all members if one of them needs it.

    `lax.cond` would compute it always if the condition differs between members. A loop of at most
    one round does not.

    Args:
        needed: bool [].
        compute: makes the value.
        otherwise: what to return if it is not needed; shaped like the value.
    """

    def once(carry: tuple[jax.Array, T]) -> tuple[jax.Array, T]:
        return jnp.bool_(False), compute()

    return jax.lax.while_loop(lambda carry: carry[0], once, (needed, otherwise))[1]
