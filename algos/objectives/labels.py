"""Objectives that read how far the answers of a group agree."""

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import accuracy, standardise, whiten
from algos.objectives.group import GRPO
from algos.objectives.inputs import Inputs
from algos.objectives.weights import Clip
from purejaxrl.validation import hyper


def share_of_same(answer: jax.Array) -> jax.Array:
    """Return the share of the group that gives the same answer: float32 `[P, G]`.

    Answers without a meaning (-1) agree with none but themselves.
    """
    same = (answer[:, :, None] == answer[:, None, :]) & (answer != -1)[:, :, None]
    return (same | jnp.eye(answer.shape[-1], dtype=bool)).mean(-1)


def semantic_entropy(answer: jax.Array) -> jax.Array:
    """Compute the entropy of a group's answers, in nats: float32 `[P, 1]`."""
    return -jnp.log(share_of_same(answer)).mean(-1, keepdims=True)


class Empo(Clip):
    """Coefficients of EMPO."""

    entropy_low: float = hyper(0.0, at_least=0, at_most=1)
    """Share of log G that a group's entropy must reach."""
    entropy_high: float = hyper(0.999, at_least=0, at_most=1)
    """Share of log G that a group's entropy may not exceed."""


def agreement(x: Inputs, coefs: Empo) -> jax.Array:
    """Standardise the share of the group that agrees with an answer; skip uncertain groups."""
    answer = x.answers.answer
    spread = semantic_entropy(answer) / jnp.log(answer.shape[-1])
    used = (spread >= coefs.entropy_low) & (spread <= coefs.entropy_high)
    return jnp.where(used, standardise(share_of_same(answer)), 0.0)[..., None]


EMPO = GRPO._replace(name="empo", coefs=Empo(), advantage=agreement)
"""Entropy-minimised policy optimisation, without labels (Zhang et al. 2025, arXiv 2504.05812).

r_i = share of the group with the same answer; a group without two equal answers is skipped
"""


class Copo(Clip):
    """Coefficients of COPO; both are our choice."""

    steepness: float = hyper(5.0, at_least=0)
    """γ: how sharply the weight falls where a group agrees."""
    entropy_middle: float = hyper(0.5, at_least=0)
    """ρ: entropy of a group's answers, in nats, where both parts count the same."""


def local_and_global(x: Inputs, coefs: Copo) -> jax.Array:
    """Mix the advantage in the group with that of the group among all prompts."""
    among_prompts = whiten(accuracy(x.answers))
    spread = semantic_entropy(x.answers.answer)
    weight = jax.nn.sigmoid(coefs.steepness * (spread - coefs.entropy_middle))
    mixed = weight * standardise(x.answers.reward) + (1 - weight) * among_prompts
    return mixed[..., None]


COPO = GRPO._replace(name="copo", coefs=Copo(), advantage=local_and_global)
"""Consistency-aware policy optimisation (Han et al. 2025, arXiv 2508.04138).

w Â + (1 − w) Â_global, Â_global = r̄ whitened over prompts, w = σ(γ(H_answers − ρ)). That the
advantages are mixed, and not two clipped losses, is our choice.
"""

OBJECTIVES = losses.table(EMPO, COPO)
