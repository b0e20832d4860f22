"""Objectives that shape the reward: several rewards, lengths, and credit for single steps."""

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import (
    EPSILON,
    is_last,
    lengths,
    standardise,
    standardise_within,
    token_moments,
    whiten,
)
from algos.objectives.group import GRPO
from algos.objectives.inputs import Inputs
from algos.objectives.weights import Clip
from purejaxrl.validation import hyper


class Gdpo(Clip):
    """Coefficients of GDPO; both weights are our choice."""

    correct_coef: float = hyper(1.0, at_least=0)
    """Weight of correctness."""
    other_coef: float = hyper(0.5, at_least=0)
    """Weight of each other reward."""


def decoupled(x: Inputs, coefs: Gdpo) -> jax.Array:
    """Standardise each reward in its group, add them up, and whiten the sum over the batch."""
    others = jnp.moveaxis(x.answers.other_rewards, -1, 0)
    total = coefs.correct_coef * standardise(x.answers.reward)
    total += coefs.other_coef * jax.vmap(standardise)(others).sum(0)
    return whiten(total)[..., None]


GDPO = GRPO._replace(name="gdpo", coefs=Gdpo(), advantage=decoupled, needs=("other_rewards",))
"""Group reward-decoupled normalisation (arXiv 2601.05242).

A = Σ_n w_n (r_n − r̄_n)/(σ_n + ε), whitened over the batch, in GRPO's loss
"""


class Adora(Clip):
    """Coefficients of ADORA."""

    discount: float = hyper(0.1, at_least=0)
    """λ: weight of a group whose correct answers are not long."""


def length_aware(x: Inputs, coefs: Adora) -> jax.Array:
    """Weigh a group less if its longest correct answer is not longer than the mean wrong one."""
    length, right = lengths(x.answers.mask), x.answers.reward > 0
    longest = jnp.where(right, length, 0.0).max(-1, keepdims=True)
    wrong = jnp.where(right, 0.0, length).sum(-1, keepdims=True)
    wrong /= jnp.maximum((~right).sum(-1, keepdims=True), 1)
    weight = jnp.where(longest > wrong, 1.0, coefs.discount)
    return (weight * standardise(x.answers.reward))[..., None]


ADORA = GRPO._replace(name="adora", coefs=Adora(), advantage=length_aware)
"""ADORA: GRPO that prefers groups in which longer answers are the correct ones.

Â × λ if the longest correct answer is not longer than the mean wrong one
"""


class Capo(Clip):
    """Coefficients of CAPO."""

    step_penalty: float = hyper(0.5, at_least=0)
    """What the tokens of a wrong step lose; our choice."""


def blamed(x: Inputs, coefs: Capo) -> jax.Array:
    """Subtract a penalty from the advantage of tokens in wrong steps."""
    wrong = 1 - x.answers.step_reward
    return standardise(x.answers.reward)[..., None] - coefs.step_penalty * wrong


CAPO = GRPO._replace(name="capo", coefs=Capo(), advantage=blamed, needs=("step_reward",))
"""Credit assignment policy optimisation (Xie et al. 2025, arXiv 2508.02298).

A_t = Â − penalty 1[the step of token t is wrong]
"""


class Igpo(Clip):
    """Coefficients of IGPO."""

    gamma: float = hyper(1.0, at_least=0, at_most=1)
    """Discount per token."""


def returns_to_go(reward: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Compute Σ_{k ≥ t} γ^{k−t} r_k along the last axis."""

    def step(after: jax.Array, now: jax.Array):
        after = now + gamma * after
        return after, after

    _, found = jax.lax.scan(step, reward[..., 0] * 0, jnp.moveaxis(reward, -1, 0), reverse=True)
    return jnp.moveaxis(found, 0, -1)


def information_gain(x: Inputs, coefs: Igpo) -> jax.Array:
    """Reward each token for what it adds to the policy's belief in the true answer."""
    mask, belief = x.answers.mask, x.answers.belief
    gain = belief[..., 1:] - belief[..., :-1]
    reward = jnp.where(is_last(mask), x.answers.reward[..., None], gain)
    mean, deviation = token_moments(reward, mask, axis=(1, 2))
    return returns_to_go(jnp.where(mask, (reward - mean) / (deviation + EPSILON), 0.0), coefs.gamma)


IGPO = GRPO._replace(name="igpo", coefs=Igpo(), advantage=information_gain, needs=("belief",))
"""Information-gain policy optimisation (Wang et al. 2025, arXiv 2510.14967).

r_t = p(truth | y_≤t) − p(truth | y_<t), the outcome at the end, standardised over all tokens of the
group; A_t = Σ_{k ≥ t} γ^{k−t} r_k. A turn is one token here.
"""


class Hbpo(Clip):
    """Coefficients of HBPO."""

    length_coef: float = hyper(0.5, at_least=0, at_most=1)
    """Share of its reward that an answer loses if its length and its budget differ by the greatest
    length; proportional in between; our choice."""


NUM_BUDGETS = 2
"""Budgets of a group of HBPO: half of the greatest length, and all of it. The paper has four."""


def budgeted(x: Inputs, coefs: Hbpo) -> jax.Array:
    """Shape rewards by budgets of length; compare within each budget and between budgets."""
    size, longest = x.answers.mask.shape[1:]
    budget = jnp.arange(size) * NUM_BUDGETS // size
    off = jnp.abs(lengths(x.answers.mask) / longest - (budget + 1) / NUM_BUDGETS)
    reward = x.answers.reward * (1 - coefs.length_coef * off)
    same = jnp.broadcast_to(budget[:, None] == budget, (reward.shape[0], size, size))
    return (standardise_within(reward, same) + standardise(reward))[..., None]


HBPO = GRPO._replace(name="hbpo", coefs=Hbpo(), advantage=budgeted, fewest_answers=2 * NUM_BUDGETS)
"""Hierarchical budget policy optimisation (arXiv 2507.15844).

The answers of a group are split over budgets of length. r is shaped by the distance from the
budget, r (1 − c |L/T − b|). Â is standardised within the budget plus standardised over the group.
The shape, the sum and the number of budgets are our choice. The prompt does not name the budget.
"""


class RankGrpo(Clip):
    """Coefficients of Rank-GRPO."""

    discount_base: float = hyper(2.0, above=1)
    """A gain n places later counts 1/log_base(base + n); our choice."""


def gain_to_go(x: Inputs, coefs: RankGrpo) -> jax.Array:
    """Standardise the discounted gain from each place on, over answers that have the place."""
    mask = x.answers.mask
    relevance = jnp.where(mask, x.answers.step_reward, 0.0)
    place = jnp.arange(mask.shape[-1])
    later = place[:, None] - place  # [place of the gain, place]
    weight = jnp.log(coefs.discount_base) / jnp.log(coefs.discount_base + jnp.maximum(later, 0))
    gain = relevance @ jnp.where(later >= 0, weight, 0.0)
    mean, deviation = token_moments(gain, mask, axis=(1,))
    return (gain - mean) / (deviation + EPSILON)


RANK_GRPO = GRPO._replace(
    name="rank_grpo", coefs=RankGrpo(), advantage=gain_to_go, needs=("step_reward",)
)
"""Rank-GRPO: the answer is a list, and each place has a reward (Zhu et al. 2025, arXiv 2510.20150).

Â_t: the discounted gain from place t on, standardised over the group. A place is one token here, so
that the geometric mean of its ratios is ρ_t.
"""

OBJECTIVES = losses.table(GDPO, ADORA, CAPO, IGPO, HBPO, RANK_GRPO)
