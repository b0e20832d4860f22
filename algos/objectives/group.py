"""GRPO and its nearest relatives: answers are compared with the others of their group.

They differ in what divides the advantage, and in how tokens are averaged.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import (
    EPSILON,
    centre,
    centred,
    scaled_by_batch,
    standardised,
    whiten_tokens,
)
from algos.objectives.inputs import Inputs, Objective
from algos.objectives.losses import maximise
from algos.objectives.weights import Clip, Kl, clipped, log_likelihood

GRPO = Objective(
    name="grpo",
    coefs=Clip(kl_coef=0.001),
    advantage=standardised,
    weight=clipped,
    loss=maximise,
)
"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300).

(1/G) Σ_i (1/L_i) Σ_t min(ρÂ, clip(ρ, 1 ± ε)Â) − β KL(π ‖ π_ref), Â = (r − r̄)/(σ + 1e-6)
"""

TWO_GRPO = GRPO._replace(name="two_grpo", num_answers=2)
"""GRPO with two answers to each prompt (Wu et al. 2025, arXiv 2510.00977)."""

DRGRPO = Objective(
    name="drgrpo",
    coefs=Clip(),
    advantage=centred,
    weight=clipped,
    loss=partial(maximise, average=losses.fixed_length_mean),
)
"""Dr. GRPO: GRPO without σ and without 1/L_i (Liu et al. 2025, arXiv 2503.20783).

(1/GT) Σ_i Σ_t min(ρÂ, clip(ρ, 1 ± ε)Â), Â = r − r̄, T the greatest length
"""

LITE_PPO = Objective(
    name="lite_ppo",
    coefs=Clip(),
    advantage=scaled_by_batch,
    weight=clipped,
    loss=partial(maximise, average=losses.token_mean),
)
"""Lite PPO: the batch's deviation and a mean over tokens (Liu et al. 2025, arXiv 2508.08221).

Â = (r − r̄)/(σ_batch + 1e-6), and every token counts the same.
"""


def leave_one_out(x: Inputs, coefs: Any) -> jax.Array:
    """Compute r_i − mean_{j ≠ i} r_j = G/(G − 1) (r_i − r̄)."""
    size = x.answers.reward.shape[-1]
    return (size / (size - 1) * centre(x.answers.reward))[..., None]


RLOO = Objective(
    name="rloo",
    coefs=Kl(),
    advantage=leave_one_out,
    weight=log_likelihood,
    loss=partial(maximise, average=losses.answer_sum),
)
"""REINFORCE with the mean of the others as baseline (Ahmadian et al. 2024, arXiv 2402.14740).

(1/G) Σ_i (r_i − mean_{j ≠ i} r_j) log π(y_i)
"""


def whitened(x: Inputs, coefs: Any) -> jax.Array:
    """Standardise r over all tokens of the batch."""
    return whiten_tokens(x.answers.reward[..., None], x.answers.mask)


def centred_and_whitened(x: Inputs, coefs: Any) -> jax.Array:
    """Standardise r − r̄ over all tokens of the batch."""
    return whiten_tokens(centre(x.answers.reward)[..., None], x.answers.mask)


REINFORCE_PP = Objective(
    name="reinforce_pp",
    coefs=Clip(),
    advantage=whitened,
    weight=clipped,
    loss=partial(maximise, average=losses.token_mean),
    fewest_answers=1,
)
"""REINFORCE++: advantages are whitened over the batch, not in groups (Hu 2025, arXiv 2501.03262).

Â = (r − mean)/σ over all tokens of the batch, clipped as in PPO
"""

REINFORCE_PP_BASELINE = REINFORCE_PP._replace(
    name="reinforce_pp_baseline", advantage=centred_and_whitened, fewest_answers=2
)
"""REINFORCE++ with the group's mean as baseline (Hu 2025, arXiv 2501.03262; verl).

Â = (r − r̄ − mean)/σ over all tokens of the batch
"""


def best_of_subsets(x: Inputs, coefs: Any, k: int) -> jax.Array:
    """Compute what an answer adds to the best of k, averaged over all subsets of k answers.

    In a subset, only the best answer has an advantage, r_(1) − r_(2) (Tang et al. 2025, arXiv
    2503.19595). That is 1 for a correct answer that is the only one, and 0 for all others. It is
    the only one in a share C(W, k − 1)/C(G − 1, k − 1) of its subsets, where W answers are wrong.
    The average over subsets is our choice; with k = G it is the published rule.
    """
    reward = x.answers.reward
    size, wrong = reward.shape[-1], (1 - reward).sum(-1, keepdims=True)
    drawn = jnp.arange(k - 1)
    share = jnp.maximum(wrong[..., None] - drawn, 0) / (size - 1 - drawn)
    deviation = reward.std(-1, ddof=1, keepdims=True) + EPSILON
    return (reward * share.prod(-1) / deviation)[..., None]


def pass_at_k(k: int) -> Objective:
    """Make GRPO for pass@k: an answer is rewarded for what it adds to the best of k.

    Â = r C(W, k − 1)/C(G − 1, k − 1)/(σ + 1e-6); see `best_of_subsets`. Its source is verl.

    Args:
        k: answers of which one must be correct, at least 2.

    Raises:
        ValueError: if k is less than 2.
    """
    if k < 2:
        raise ValueError(f"k: {k!r} is not valid; it must be an integer >= 2")
    return Objective(
        name=f"pass_at_{k}",
        coefs=Clip(),
        advantage=partial(best_of_subsets, k=k),
        weight=clipped,
        loss=maximise,
        fewest_answers=k,
    )


OBJECTIVES = losses.table(
    GRPO, TWO_GRPO, DRGRPO, LITE_PPO, RLOO, REINFORCE_PP, REINFORCE_PP_BASELINE, pass_at_k(4)
)
