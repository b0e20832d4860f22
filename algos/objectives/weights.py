"""Weights that several objectives share: what each token contributes to what is maximised.

Every weight is a function `(x, coefs) -> [P, G, T]`, the surrogate, or `[P, G, 1]` where the tokens
of an answer share one. ρ is the ratio of the new to the old probability of a token.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from algos.objectives.advantages import lengths
from algos.objectives.inputs import Inputs
from purejaxrl.parts.divergences import bounded_exp
from purejaxrl.validation import hyper


class Kl(struct.PyTreeNode):
    """The coefficient that almost all objectives have."""

    kl_coef: float = hyper(0.0, at_least=0)
    """Weight of the KL divergence to the reference policy."""


class Clip(Kl):
    """Coefficients of a clipped surrogate."""

    clip_low: float = hyper(0.2, at_least=0, infinite=True)
    """How far ρ may fall below 1 before its gradient vanishes."""
    clip_high: float = hyper(0.2, at_least=0, infinite=True)
    """How far ρ may rise above 1 before its gradient vanishes."""


def log_ratio(x: Inputs, coefs: Any = None) -> jax.Array:
    """Compute log ρ, 0 after the end: `[P, G, T]`."""
    return jnp.where(x.answers.mask, x.policy.log_prob - x.answers.old_log_prob, 0.0)


def log_ratio_to_reference(x: Inputs, coefs: Any = None) -> jax.Array:
    """Compute log π/π_ref, 0 after the end: `[P, G, T]`."""
    return jnp.where(x.answers.mask, x.policy.log_prob - x.answers.ref_log_prob, 0.0)


def answer_log_ratio(x: Inputs) -> jax.Array:
    """Compute the log-ratio of a whole answer, Σ_t log ρ_t: `[P, G, 1]`."""
    return log_ratio(x).sum(-1, keepdims=True)


def mean_log_ratio(x: Inputs) -> jax.Array:
    """Compute (1/L) Σ_t log ρ_t: `[P, G, 1]`."""
    return answer_log_ratio(x) / lengths(x.answers.mask)[..., None]


def clip_surrogate(ratio: jax.Array, x: Inputs, coefs: Clip) -> jax.Array:
    """Compute min(ratio Â, clip(ratio, 1 − ε_low, 1 + ε_high) Â)."""
    clipped = jnp.clip(ratio, 1 - coefs.clip_low, 1 + coefs.clip_high)
    return jnp.minimum(ratio * x.answers.advantage, clipped * x.answers.advantage)


def clipped(x: Inputs, coefs: Clip) -> jax.Array:
    """Clip the ratio of each token (PPO, Schulman et al. 2017, arXiv 1707.06347)."""
    return clip_surrogate(bounded_exp(log_ratio(x)), x, coefs)


def clipped_answers(x: Inputs, coefs: Clip) -> jax.Array:
    """Clip one ratio per answer, s = (π(y)/π_old(y))^{1/L}."""
    return clip_surrogate(bounded_exp(mean_log_ratio(x)), x, coefs)


def log_likelihood(x: Inputs, coefs: Any) -> jax.Array:
    """Weigh the log-probability by the advantage, Â log π (REINFORCE, Williams 1992)."""
    return x.answers.advantage * x.policy.log_prob


def log_prob(x: Inputs, coefs: Any) -> jax.Array:
    """Return log π: the loss compares the answers."""
    return x.policy.log_prob


def ratio(x: Inputs, coefs: Any) -> jax.Array:
    """Return ρ: the loss compares the answers."""
    return bounded_exp(log_ratio(x))
