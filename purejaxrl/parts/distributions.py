"""Distributions that levels and hyperparameters are drawn from."""

import jax
import jax.numpy as jnp


def log_uniform(key: jax.Array, low: float, high: float, shape: tuple[int, ...] = ()) -> jax.Array:
    """Draw numbers whose logarithm is uniform between those of `low` and `high`: float32."""
    return jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(low), maxval=jnp.log(high)))


def log_uniform_int(key: jax.Array, low: int, high: int) -> jax.Array:
    """Draw an integer from low to high, both included, with a uniform logarithm: int32 `[]`."""
    return jnp.clip(jnp.floor(log_uniform(key, low, high + 1)), low, high).astype(jnp.int32)
