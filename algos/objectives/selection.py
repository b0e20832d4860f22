"""Objectives that sample more than they learn from, and choose what is kept."""

from functools import partial

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import accuracy, lengths, standardise
from algos.objectives.group import GRPO
from algos.objectives.inputs import Answers, Inputs, Objective, Sampler
from algos.objectives.losses import maximise, mean_of_answers
from algos.objectives.weights import Clip, clipped
from purejaxrl.validation import hyper

OF_PROMPTS = ("prompt", "difficulty", "demonstration", "demonstration_mask")
"""Fields of `Answers` without an axis of answers."""


def take_answers(answers: Answers, index: jax.Array) -> Answers:
    """Keep some answers of each group: `index` is int32 `[P, num_answers]`."""
    take = jax.vmap(lambda values, places: values[places])
    kept = {
        name: value if name in OF_PROMPTS or value is None else take(value, index)
        for name, value in answers._asdict().items()
    }
    return Answers(**kept)


class Dapo(Clip):
    """Coefficients of DAPO."""

    clip_high: float = hyper(0.28, at_least=0, infinite=True)
    """How far ρ may rise above 1 before its gradient vanishes."""
    overlong_share: float = hyper(0.2, above=0, at_most=1)
    """Last share of the greatest length, in which the penalty rises from 0 to 1."""
    overlong_coef: float = hyper(0.0, at_least=0)
    """Weight of that penalty; 1 in the paper. It is off here, where the longest solutions are as
    long as an answer can be."""


def keep_mixed_groups(answers: Answers, num_prompts: int, num_answers: int, coefs: Dapo) -> Answers:
    """Keep groups with correct and wrong answers; others fill up the batch with masked tokens."""
    mean = accuracy(answers)[:, 0]
    dead = (mean == 0) | (mean == 1)
    kept = jnp.argsort(dead, stable=True)[:num_prompts]
    answers = jax.tree.map(lambda values: values[kept], answers)
    return answers._replace(mask=answers.mask & ~dead[kept][:, None, None])


def without_overlong(x: Inputs, coefs: Dapo) -> jax.Array:
    """Standardise r minus a penalty for answers that come near the greatest length."""
    share = lengths(x.answers.mask) / x.answers.mask.shape[-1]
    penalty = jnp.maximum(share - (1 - coefs.overlong_share), 0) / coefs.overlong_share
    return standardise(x.answers.reward - coefs.overlong_coef * penalty)[..., None]


DAPO = Objective(
    name="dapo",
    coefs=Dapo(),
    advantage=without_overlong,
    weight=clipped,
    loss=partial(maximise, average=losses.token_mean),
    sampler=Sampler(keep=keep_mixed_groups, more_prompts=2),
)
"""DAPO (Yu et al. 2025, arXiv 2503.14476).

GRPO with ε_low .2 and ε_high .28, a mean over tokens, a soft penalty for long answers, and no group
whose answers are all correct or all wrong. The paper samples until enough groups are mixed. Our
choice is to ask twice as many prompts.
"""


def keep_consistent(answers: Answers, num_prompts: int, num_answers: int, coefs: Clip) -> Answers:
    """Keep correct answers with the best steps and wrong ones with the worst, equally many of each.

    If there are too few of one kind, all of them are kept, and the other kind fills the rest.
    """
    score = mean_of_answers(answers.step_reward, answers.mask)
    right = answers.reward > 0
    num_right = right.sum(-1, keepdims=True)
    num_wrong = right.shape[-1] - num_right
    places = jnp.clip(num_answers // 2, num_answers - num_wrong, num_right)
    order = jnp.argsort(jnp.where(right, -score, score) + jnp.where(right, 0.0, 1e3), axis=-1)
    rank = jnp.argsort(order, axis=-1)
    rank_of_kind = jnp.where(right, rank, rank - num_right)
    kept = rank_of_kind < jnp.where(right, places, num_answers - places)
    return take_answers(answers, jnp.argsort(~kept, axis=-1, stable=True)[:, :num_answers])


PROF = GRPO._replace(
    name="prof",
    coefs=Clip(),
    sampler=Sampler(keep=keep_consistent, more_answers=2),
    needs=("step_reward",),
)
"""Process consistency filter (Ye et al. 2025, arXiv 2509.03403).

GRPO on half of the answers: of correct ones those with the highest mean process score, of wrong
ones those with the lowest, balanced
"""


class D3s(Clip):
    """Coefficients of D³S; all are our choice."""

    answers_start: float = hyper(0.5, above=0, at_most=1)
    """Share of the answers that is kept at the start of the run; 1 at its end."""
    tokens_start: float = hyper(0.5, above=0, at_most=1)
    """Share of the tokens that is kept at the start of the run; 1 at its end."""


def most_varied(values: jax.Array, num: jax.Array) -> jax.Array:
    """Mark the `num` values of each group with the greatest variance: bool `[P, G]`.

    They are the lowest and the highest ones; how many of each is searched for.
    """
    size = values.shape[-1]
    rank = jnp.argsort(jnp.argsort(values, axis=-1), axis=-1)
    highest = jnp.arange(size + 1)[:, None, None]
    marked = (rank >= size - highest) | (rank < num - highest)  # [size + 1, P, G]
    fits = (highest <= num)[..., 0]
    mean = jnp.where(marked, values, 0.0).sum(-1) / num
    spread = jnp.where(marked, (values - mean[..., None]) ** 2, 0.0).sum(-1)
    best = jnp.where(fits, spread, -1.0).argmax(0)
    return jnp.take_along_axis(marked, best[None, :, None], axis=0)[0]


def downsampled(x: Inputs, coefs: D3s) -> jax.Array:
    """Set the advantage of answers and tokens that are not kept to 0."""
    advantage, mask = standardise(x.answers.reward), x.answers.mask
    share = coefs.answers_start + (1 - coefs.answers_start) * x.age
    num = jnp.maximum(jnp.round(share * advantage.shape[-1]), 2)
    kept = most_varied(advantage, num)[..., None] & mask
    weight = jnp.where(kept, jnp.abs(advantage)[..., None] * x.answers.entropy, jnp.nan)
    share = coefs.tokens_start + (1 - coefs.tokens_start) * x.age
    kept &= weight >= jnp.nanquantile(weight, 1 - share)
    return jnp.where(kept, advantage[..., None], 0.0)


def kept_token_mean(surrogate: jax.Array, x: Inputs, coefs: D3s) -> jax.Array:
    """Average the tokens whose advantage is not 0."""
    kept = x.answers._replace(mask=x.answers.mask & (x.answers.advantage != 0))
    return maximise(surrogate, x._replace(answers=kept), coefs, losses.token_mean)


D3S = GRPO._replace(name="d3s", coefs=D3s(), advantage=downsampled, loss=kept_token_mean)
"""Dynamic dual-level down-sampling (Wang et al. 2025, arXiv 2509.22115).

GRPO on the answers of a group whose advantages vary most, and on their tokens with the highest
|Â| H. Both shares grow to 1 over the run.
"""

OBJECTIVES = losses.table(DAPO, PROF, D3S)
