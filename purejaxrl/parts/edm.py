"""Diffusion models as in Karras et al. 2022 (EDM, arXiv 2206.00364), for data of unit variance.

A denoiser D(x; σ) estimates the data y from x = y + σ n, where n is standard normal noise. Samples
start as noise of the greatest σ, which is then taken away in steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.validation import require, require_count

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""`(x, sigma) -> D(x; sigma)`: x float32 `[batch, ...]`, sigma float32 []."""


class Sampling(NamedTuple):
    """How samples are drawn; policy-guided diffusion has the same defaults, but 256 steps."""

    num_steps: int = 32
    """Noise levels; every step but the last asks the denoiser twice."""
    least: float = 0.002
    """σ of the last level before 0."""
    greatest: float = 80.0
    """σ of the first level."""
    power: float = 7.0
    """ρ: the higher it is, the more levels have little noise."""
    churn: float = 80.0
    """Noise that is added again, in total; 0 makes the sampler deterministic."""
    churn_range: tuple[float, float] = (0.05, 50.0)
    """Levels at which noise is added again."""
    churn_scale: float = 1.003
    """Standard deviation of that noise."""


def check_sampling(how: Sampling) -> None:
    """Raise a ValueError unless samples can be drawn."""
    require_count(how, "num_steps")
    in_order = 0 < how.least <= how.greatest < np.inf
    require(in_order, how, "least", f"a number > 0 and <= greatest = {how.greatest}")
    for name in ("power", "churn_scale"):
        require(0 < getattr(how, name) < np.inf, how, name, "a finite number > 0")
    require(0 <= how.churn < np.inf, how, "churn", "a finite number >= 0")


def noise_levels(how: Sampling) -> jax.Array:
    """Return the levels σ₀ … σ_N, the last of which is 0 (equation 5): float32 `[N + 1]`."""
    greatest, least = how.greatest ** (1 / how.power), how.least ** (1 / how.power)
    share = jnp.arange(how.num_steps) / max(how.num_steps - 1, 1)
    return jnp.append((greatest + share * (least - greatest)) ** how.power, 0.0)


def denoised(network: Denoise, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Make a denoiser of a network that reads `(scaled x, ln(σ) / 4)` (equation 7, table 1).

    Args:
        network: its inputs and its targets have unit variance at every σ.
        x: float32 `[batch, ...]`.
        sigma: float32, broadcast against x.
    """
    variance = sigma**2 + 1.0
    outputs = network(x / jnp.sqrt(variance), jnp.log(sigma) / 4.0)
    return x / variance + sigma / jnp.sqrt(variance) * outputs


def denoising_loss(key: jax.Array, network: Denoise, data: jax.Array) -> jax.Array:
    """Compute the weighted squared error of a denoiser at random noise levels (equation 8).

    Args:
        key: typed key.
        network: as in `denoised`; it gets a noise level for each item, `[batch, 1]`.
        data: float32 `[batch, features]`, of zero mean and unit variance.
    """
    level_key, noise_key = jax.random.split(key)
    sigma = jnp.exp(-1.2 + 1.2 * jax.random.normal(level_key, (data.shape[0], 1)))
    noisy = data + sigma * jax.random.normal(noise_key, data.shape)
    weight = (sigma**2 + 1.0) / sigma**2
    return (weight * (denoised(network, noisy, sigma) - data) ** 2).mean()


def sample(key: jax.Array, denoise: Denoise, shape: tuple[int, ...], how: Sampling) -> jax.Array:
    """Draw samples by Heun's method with noise added again (algorithm 2).

    Args:
        key: typed key.
        denoise: the denoiser.
        shape: the shape of the samples, `[batch, ...]`.
        how: steps and noise.
    """
    start_key, churn_key = jax.random.split(key)
    levels = noise_levels(how)
    gamma = min(how.churn / how.num_steps, 2**0.5 - 1)

    def add_noise(key: jax.Array, x: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
        churned = (how.churn_range[0] <= level) & (level <= how.churn_range[1])
        sigma = level * (1.0 + jnp.where(churned, gamma, 0.0))
        added = jnp.sqrt(jnp.maximum(sigma**2 - level**2, 0.0))
        return x + added * how.churn_scale * jax.random.normal(key, shape), sigma

    def step(x: jax.Array, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, None]:
        key, level, below = inputs
        x, sigma = add_noise(key, x, level)
        slope = (x - denoise(x, sigma)) / sigma
        moved = x + (below - sigma) * slope
        second = (moved - denoise(moved, below)) / below
        return x + (below - sigma) * 0.5 * (slope + second), None

    x = levels[0] * jax.random.normal(start_key, shape)
    keys = jax.random.split(churn_key, how.num_steps)
    x, _ = jax.lax.scan(step, x, (keys[:-1], levels[:-2], levels[1:-1]))
    return denoise(*add_noise(keys[-1], x, levels[-2]))  # Euler's step to 0 ends there


def spread(sigma: jax.Array) -> jax.Array:
    """Estimate the variance of data of unit variance around the denoiser's mean: σ² / (1 + σ²)."""
    return sigma**2 / (1.0 + sigma**2)


def tilt(
    mean: jax.Array,
    variance: jax.Array,
    log_weight: Callable[[jax.Array], jax.Array],
    power: jax.Array,
) -> jax.Array:
    r"""Move denoised data as if they had been drawn from p(y) w(y)^λ instead of p(y).

    With the gradient g and the curvature -h of log w at the mean D, the mean of the tilted density
    is $D + v \lambda g / (1 + v \lambda h)$. This is exact for Gaussian p and w. As the variance v
    falls it is the sum of scores, ∇ log p + λ ∇ log w.

    Args:
        mean: D, `[batch, ...]`.
        variance: v of the data around D, broadcast against it.
        log_weight: log w, `[batch, ...]` to `[batch]`; each entry of y has its own part in it.
        power: λ, scalar.
    """
    slope = jax.grad(lambda y: log_weight(y).sum())
    g, bend = jax.jvp(slope, (mean,), (jnp.ones_like(mean),))
    step = power * variance
    return mean + step * g / (1.0 + step * jnp.maximum(-bend, 0.0))
