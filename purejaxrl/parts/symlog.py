"""The symmetric logarithm, one scale for numbers of any size and sign (arXiv 2301.04104)."""

import jax
import jax.numpy as jnp


def _apart(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split numbers into positive and negative parts; the derivative at 0 is that of the first."""
    return jnp.where(x < 0, 0.0, x), jnp.where(x < 0, x, 0.0)


def symlog(x: jax.Array) -> jax.Array:
    """Compute sign(x) log(1 + |x|), elementwise; its derivative at 0 is 1."""
    positive, negative = _apart(x)
    return jnp.log1p(positive) - jnp.log1p(-negative)


def symexp(x: jax.Array) -> jax.Array:
    """Invert `symlog`, elementwise."""
    positive, negative = _apart(x)
    return jnp.expm1(positive) - jnp.expm1(-negative)
