"""Objectives that tell correct from wrong answers, as a classifier does."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.lax import stop_gradient

from algos.objectives import losses
from algos.objectives.advantages import accuracy, correct, lengths
from algos.objectives.inputs import Inputs, Objective
from algos.objectives.losses import maximise, mean_of_answers, token_mean
from algos.objectives.weights import Kl, log_prob, log_ratio, ratio
from purejaxrl.parts.divergences import bounded_exp, k3
from purejaxrl.validation import hyper


class Nft(Kl):
    """Coefficients of NFT."""

    floor: float = hyper(1.0, above=0)
    """ε: least value of the negative policy's ratio; 1 is our reading."""
    prompt_power: float = hyper(0.5, at_least=0)
    """A prompt is weighted by ((1 − r̄)/r̄) to this power."""


def bounded_accuracy(x: Inputs) -> jax.Array:
    """Return r̄ within [.02, .98], as the published code does: `[P, 1]`."""
    return jnp.clip(accuracy(x.answers), 0.02, 0.98)


def signed_prompt_weight(x: Inputs, coefs: Nft) -> jax.Array:
    """Return ((1 − r̄)/r̄)^p, with a minus for wrong answers."""
    mean = bounded_accuracy(x)
    weight = ((1 - mean) / mean) ** coefs.prompt_power
    return (weight * (2 * x.answers.reward - 1))[..., None]


def implicit(x: Inputs, coefs: Nft) -> jax.Array:
    """Weigh log R for correct answers, and the log-ratio of the negative policy for wrong ones.

    What is below the floor is raised to it, but its gradient passes.
    """
    mean, log_rho = bounded_accuracy(x)[..., None], log_ratio(x)
    negative = (1 - mean * bounded_exp(log_rho)) / (1 - mean)
    raised = negative + stop_gradient(jnp.maximum(negative, coefs.floor) - negative)
    weight = x.answers.advantage
    return jnp.abs(weight) * jnp.where(weight > 0, log_rho, jnp.log(raised))


NFT = Objective(
    name="nft",
    coefs=Nft(),
    advantage=signed_prompt_weight,
    weight=implicit,
    loss=partial(maximise, average=token_mean),
)
"""Negative-aware fine-tuning (Chen et al. 2025, arXiv 2505.18116).

√((1 − r̄)/r̄) mean over tokens of r log R + (1 − r) log max((1 − r̄R)/(1 − r̄), ε), R = π/π_old
"""


class Disco(struct.PyTreeNode):
    """Coefficients of DisCO."""

    temperature: float = hyper(10.0, above=0)
    """τ: the smaller, the more the most likely wrong answers count."""
    kl_limit: float = hyper(1e-4, at_least=0)
    """δ: KL(π_old ‖ π) that is free."""
    kl_weight: float = hyper(1e3, at_least=0)
    """β: weight of what is above the limit."""


def equal_shares(x: Inputs, coefs: Any) -> jax.Array:
    """Give each correct answer the same share: `[P, G]`."""
    return x.answers.reward / jnp.maximum(x.answers.reward.sum(-1, keepdims=True), 1)


def contrast(
    surrogate: jax.Array,
    x: Inputs,
    coefs: Disco,
    shares: Callable[[Inputs, Any], jax.Array] = equal_shares,
) -> jax.Array:
    """Raise the scores of correct answers above a soft maximum of the wrong ones' scores.

    Args:
        surrogate: scores of the tokens; an answer's score is their mean.
        x: what an objective reads.
        coefs: coefficients.
        shares: `(x, coefs) -> [P, G]`, how much each correct answer counts in its group.
    """
    score, wrong = mean_of_answers(surrogate, x.answers.mask), x.answers.reward == 0
    both = wrong.any(-1) & ~wrong.all(-1)
    wrong_or_unused = wrong | ~both[:, None]
    hardest = coefs.temperature * jax.nn.logsumexp(
        jnp.where(wrong_or_unused, score / coefs.temperature, -jnp.inf), axis=-1
    )
    gap = (shares(x, coefs) * score).sum(-1) - hardest
    kl = token_mean(k3(log_ratio(x)), x.answers.mask)
    excess = stop_gradient(coefs.kl_weight * jnp.maximum(kl - coefs.kl_limit, 0.0))
    return excess * kl - jnp.where(both, gap, 0.0).mean()


DISCO = Objective(name="disco", coefs=Disco(), advantage=correct, weight=log_prob, loss=contrast)
"""Discriminative constrained optimisation (Li et al. 2025, arXiv 2505.12366), s = mean log π.

mean over correct y of s(y) − τ log Σ_{wrong y} e^{s(y)/τ}, with the penalty
sg(β [KL(π_old ‖ π) − δ]₊) KL(π_old ‖ π); groups of one kind are dropped
"""

DISCO_RATIO = DISCO._replace(name="disco_ratio", coefs=Disco(temperature=1.0), weight=ratio)
"""Discriminative constrained optimisation, where an answer's score is the mean of ρ."""


class Drpo(Disco):
    """Coefficients of DRPO."""

    length_temperature: float = hyper(0.1, above=0)
    """λ: the smaller, the more the shortest correct answer counts; our choice."""


def short_shares(x: Inputs, coefs: Drpo) -> jax.Array:
    """Give correct answers shares ∝ e^{(1 − L/T)/λ}: `[P, G]`."""
    right = x.answers.reward > 0
    brevity = 1 - lengths(x.answers.mask) / x.answers.mask.shape[-1]
    logits = jnp.where(right | ~right.any(-1, keepdims=True), brevity, -jnp.inf)
    return jax.nn.softmax(logits / coefs.length_temperature) * right


DRPO = DISCO._replace(name="drpo", coefs=Drpo(), loss=partial(contrast, shares=short_shares))
"""Decoupled reward policy optimisation (Li et al. 2025, arXiv 2510.04474).

DisCO, in which short correct answers count more. Wrong answers never enter their mean.
"""

OBJECTIVES = losses.table(NFT, DISCO, DISCO_RATIO, DRPO)
