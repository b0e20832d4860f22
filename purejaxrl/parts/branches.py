"""A conditional that skips its computation if no member needs it, under vmap too."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from purejaxrl.identity import is_key

T = TypeVar("T")


def compute_if(needed: jax.Array, compute: Callable[[Any], T], operand: Any, otherwise: T) -> T:
    """Compute a value if it is needed; under vmap, for all members if one of them needs it.

    `lax.cond` would compute it always if the condition differs between members. A loop of at most
    one round does not.

    Args:
        needed: bool [].
        compute: maps the operand to the value. The only random keys it uses are the operand's.
        operand: the argument of `compute`.
        otherwise: what to return if it is not needed; shaped like the value.
    """

    def once(carry: tuple[jax.Array, T]) -> tuple[jax.Array, T]:
        # JAX assumes that a loop has many rounds, and so would report the keys as reused.
        mine = jax.tree.map(lambda x: jax.random.clone(x) if is_key(x) else x, operand)
        return jnp.bool_(False), compute(mine)

    return jax.lax.while_loop(lambda carry: carry[0], once, (needed, otherwise))[1]
