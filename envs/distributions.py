"""Distributions that levels are drawn from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def log_uniform(key: jax.Array, low: float, high: float, shape: tuple[int, ...] = ()) -> jax.Array:
    """Draw numbers whose logarithm is uniform between those of `low` and `high`: float32."""
    return jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(low), maxval=jnp.log(high)))


def log_uniform_int(key: jax.Array, low: int, high: int) -> jax.Array:
    """Draw an integer from low to high, both included, with a uniform logarithm: int32 `[]`."""
    return jnp.clip(jnp.floor(log_uniform(key, low, high + 1)), low, high).astype(jnp.int32)


def sample_scaled(sample_level: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    """Draw a level, a scale for its rewards, and an offset that every step's reward gets.

    The scale is log-uniform in 0.1 … 2, the offset the scale times U(-0.1, 0.1).

    Args:
        sample_level: draws a level with the fields `reward` and `offset`.
        key: typed key.
    """
    level_key, scale_key, offset_key = jax.random.split(key, 3)
    level, scale = sample_level(level_key), log_uniform(scale_key, 0.1, 2.0)
    offset = scale * jax.random.uniform(offset_key, minval=-0.1, maxval=0.1)
    return level.replace(reward=scale * level.reward, offset=offset)
