"""Target networks: slow copies of what is learned."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def track(target: Any, params: Any, rate: jax.Array, count: Any = 0, every: int = 1) -> Any:
    """Move a target network towards parameters: target + rate * (params - target).

    Args:
        target, params: trees of the same structure.
        rate: 1 copies the parameters; a small one makes an exponential average (Polyak).
        count: gradient steps done, this one included.
        every: gradient steps between two moves.
    """
    rate = jnp.where(count % every == 0, rate, 0.0)
    return optax.incremental_update(params, target, rate)
