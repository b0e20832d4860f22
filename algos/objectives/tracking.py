"""Objectives that learn what to expect of a prompt: a tracker, a curriculum, a critic."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import is_last, whiten
from algos.objectives.group import GRPO
from algos.objectives.inputs import Inputs, Objective, Sampler
from algos.objectives.losses import maximise, token_mean
from algos.objectives.weights import Clip, clipped
from purejaxrl.parts.returns import generalized_advantage
from purejaxrl.validation import hyper


class Spo(Clip):
    """Coefficients of SPO; all are our choice."""

    half_life: float = hyper(0.06, above=0)
    """D_half: KL divergence per token after which a count weighs half."""
    memory_min: float = hyper(0.875, above=0, below=1)
    """Least ρ. A prompt starts with 8 counts, 1/(1 − ρ_min) at this default."""
    memory_max: float = hyper(0.96, above=0, below=1)
    """Greatest ρ."""
    novelty: float = hyper(0.5, at_least=0)
    """γ: power of a prompt's counts in the denominator of its weight."""
    floor: float = hyper(0.05, above=0)
    """Least weight of a prompt."""


class Tracker(NamedTuple):
    """Counts of correct and wrong answers by prompt, float32 `[num_prompts]`."""

    correct: jax.Array
    wrong: jax.Array
    seen_at: jax.Array  # total KL when the prompt was asked last
    total_kl: jax.Array  # float32 [], KL per token, summed over all updates


def init_tracker(num_prompts: int, num_bins: int) -> Tracker:
    """Start with N₀ = 8 counts, half of them correct: 1/(1 − ρ_min) at its default."""
    half = jnp.full(num_prompts, 4.0)
    return Tracker(half, half, jnp.zeros(num_prompts), jnp.float32(0))


def choose_uncertain(
    key: jax.Array, state: Tracker, difficulty: jax.Array, num: int, coefs: Spo
) -> jax.Array:
    """Choose prompts ∝ √(v̂(1 − v̂))/N^γ + .05."""
    count = state.correct + state.wrong
    value = state.correct / count
    weight = jnp.sqrt(value * (1 - value)) / count**coefs.novelty + coefs.floor
    return jax.random.categorical(key, jnp.log(weight), shape=(num,))


def observe_answers(x: Inputs, coefs: Spo) -> Tracker:
    """Fade a prompt's counts by how far the policy has moved since, and add the new answers."""
    state, prompt, reward = x.state, x.answers.prompt, x.answers.reward
    memory = 2 ** (-(state.total_kl - state.seen_at[prompt]) / coefs.half_life)
    memory = jnp.clip(memory, coefs.memory_min, coefs.memory_max)

    def fade_and_add(counts: jax.Array, new: jax.Array) -> jax.Array:
        return counts.at[prompt].set(memory * counts[prompt]).at[prompt].add(new)

    return Tracker(
        correct=fade_and_add(state.correct, reward.sum(-1)),
        wrong=fade_and_add(state.wrong, (1 - reward).sum(-1)),
        seen_at=state.seen_at.at[prompt].set(state.total_kl),
        total_kl=state.total_kl + x.kl,
    )


def tracked(x: Inputs, coefs: Spo) -> jax.Array:
    """Subtract the tracked value before this update, and whiten over the batch."""
    prompt = x.answers.prompt
    value = x.state.correct[prompt] / (x.state.correct[prompt] + x.state.wrong[prompt])
    return whiten(x.answers.reward - value[:, None])[..., None]


SPO = Objective(
    name="spo",
    coefs=Spo(),
    advantage=tracked,
    weight=clipped,
    loss=partial(maximise, average=token_mean),
    sampler=Sampler(init_tracker, observe_answers, choose_uncertain),
    fewest_answers=1,
    num_answers=1,
)
"""Single-stream policy optimisation: no groups (Xu and Ding 2025, arXiv 2509.13232).

A = r − v̂ whitened over the batch, v̂ = α/(α + β); α ← ρα + r, β ← ρβ + 1 − r, with
ρ = 2^{−KL/D_half} in [ρ_min, ρ_max]. Prompts are chosen ∝ √(v̂(1 − v̂))/N^γ + .05.
"""


class Sec(Clip):
    """Coefficients of SEC."""

    value_rate: float = hyper(0.5, above=0, at_most=1)
    """α: step size of the bins' values."""
    temperature: float = hyper(0.5, above=0)
    """τ of the softmax over bins; the paper has .4 to 1."""


def init_bins(num_prompts: int, num_bins: int) -> jax.Array:
    """Start with Q = 0 for every bin of difficulty: float32 `[num_bins]`."""
    return jnp.zeros(num_bins)


def choose_from_bins(
    key: jax.Array, state: jax.Array, difficulty: jax.Array, num: int, coefs: Sec
) -> jax.Array:
    """Choose bins by softmax(Q/τ), and a prompt of each, all equally often."""
    size = jnp.zeros_like(state).at[difficulty].add(1)
    logits = state[difficulty] / coefs.temperature - jnp.log(size[difficulty])
    return jax.random.categorical(key, logits, shape=(num,))


def observe_advantages(x: Inputs, coefs: Sec) -> jax.Array:
    """Move Q of each bin that was asked towards its mean |Â|."""
    size = jnp.abs(x.answers.advantage[..., 0]).mean(-1)
    count = jnp.zeros_like(x.state).at[x.answers.difficulty].add(1)
    mean = jnp.zeros_like(x.state).at[x.answers.difficulty].add(size) / jnp.maximum(count, 1)
    return jnp.where(count > 0, x.state + coefs.value_rate * (mean - x.state), x.state)


SEC = GRPO._replace(
    name="sec",
    coefs=Sec(),
    sampler=Sampler(init_bins, observe_advantages, choose_from_bins),
)
"""Self-evolving curriculum: bins of difficulty as arms (Chen et al. 2025, arXiv 2505.14970).

GRPO; Q(bin) ← Q + α(mean |Â| − Q), and bins are chosen by softmax(Q/τ)
"""


class Tppo(Clip):
    """Coefficients of T-PPO."""

    window: float = hyper(0.5, above=0, at_most=1)
    """Share of the greatest length at which an answer is cut."""
    gae_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the advantage's eligibility trace; our choice."""
    value_coef: float = hyper(0.5, at_least=0)
    """Weight of the value loss; our choice."""


def extended_gae(x: Inputs, coefs: Tppo) -> jax.Array:
    """Estimate generalised advantages; tokens before the cut bootstrap from its value."""
    mask, value = x.answers.mask, x.answers.value
    ends, place = is_last(mask), jnp.arange(mask.shape[-1])
    cut = (place == jnp.maximum(jnp.round(coefs.window * mask.shape[-1]), 1) - 1) & mask & ~ends
    next_value = jnp.concatenate([value[..., 1:], jnp.zeros_like(value[..., :1])], -1)
    reward = jnp.where(ends, x.answers.reward[..., None], 0.0)
    inputs = (reward, value, next_value, ends, cut)
    advantage = generalized_advantage(
        *(jnp.moveaxis(each, -1, 0) for each in inputs), 1.0, coefs.gae_lambda
    )
    return jnp.moveaxis(advantage, 0, -1)


def tppo_loss(surrogate: jax.Array, x: Inputs, coefs: Tppo) -> jax.Array:
    """Add the squared error of the value, whose target is the outcome."""
    error = (x.policy.value - x.answers.reward[..., None]) ** 2
    return maximise(surrogate, x, coefs, token_mean) + coefs.value_coef * token_mean(
        0.5 * error, x.answers.mask
    )


TPPO = Objective(
    name="tppo",
    coefs=Tppo(),
    advantage=extended_gae,
    weight=clipped,
    loss=tppo_loss,
    needs=("value",),
    fewest_answers=1,
)
"""Truncated PPO: a critic, and answers cut at a window (Fan et al. 2025, arXiv 2506.15050).

PPO with GAE to the cut and V(s_cut) as bootstrap; V learns the outcome of finished answers. The
paper continues a cut answer in the next update. Our choice is to sample whole answers, and to cut
only the credit assignment. So all answers are finished, and no sampling time is saved.
"""

OBJECTIVES = losses.table(SPO, SEC, TPPO)
