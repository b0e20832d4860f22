"""Kullback-Leibler divergences: of distributions, and as estimated from samples."""

import jax
import jax.numpy as jnp

MOST = 20.0
"""Greatest absolute logarithm of a ratio of probabilities that is exponentiated."""


def bounded_exp(log_ratio: jax.Array) -> jax.Array:
    """Exponentiate the logarithm of a ratio, which is clipped to ±20 so that e^x is finite."""
    return jnp.exp(jnp.clip(log_ratio, -MOST, MOST))


def k3(log_ratio: jax.Array) -> jax.Array:
    """Compute e^x − 1 − x >= 0. Where x = log q/p, its mean over p is KL(p ‖ q) (Schulman 2020)."""
    return bounded_exp(log_ratio) - 1 - log_ratio


def kl_divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Compute KL(p ‖ q) over the last axis."""
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)
