"""Objectives that imitate reference solutions, alone or where the policy's own answers fail.

A demonstration y* is a reference solution to a prompt: `answers.demonstration`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.lax import stop_gradient

from algos.objectives import losses
from algos.objectives.advantages import accuracy, centred, nothing, standardised
from algos.objectives.inputs import DEMONSTRATION, Inputs, Objective, Sampler
from algos.objectives.losses import entropy, fixed_length_mean, maximise, mean_of_answers
from algos.objectives.weights import Clip, clipped, log_likelihood
from purejaxrl.parts.action_values import of_action
from purejaxrl.validation import hyper


class NoCoefs(struct.PyTreeNode):
    """The objective has no coefficients."""


def demonstrated_log_prob(x: Inputs) -> jax.Array:
    """Return log π of the demonstrations' tokens: `[P, D]`."""
    return of_action(x.policy.demonstration_log_probs, x.answers.demonstration)


def imitation(x: Inputs) -> jax.Array:
    """Compute the mean log-probability of each demonstration's tokens: `[P]`."""
    return mean_of_answers(demonstrated_log_prob(x), x.answers.demonstration_mask)


def sft_loss(surrogate: jax.Array, x: Inputs, coefs: Any) -> jax.Array:
    """Negate the log-likelihood of the demonstrations."""
    return -imitation(x).mean()


SFT = Objective(
    name="sft",
    coefs=NoCoefs(),
    advantage=nothing,
    weight=log_likelihood,
    loss=sft_loss,
    needs=DEMONSTRATION,
    fewest_answers=1,
)
"""Supervised fine-tuning: −mean_t log π(y*_t)."""


def dft_loss(surrogate: jax.Array, x: Inputs, coefs: Any) -> jax.Array:
    """Weigh each token of a demonstration by its probability."""
    found = demonstrated_log_prob(x)
    weighted = stop_gradient(jnp.exp(found)) * found
    return -mean_of_answers(weighted, x.answers.demonstration_mask).mean()


DFT = SFT._replace(name="dft", loss=dft_loss)
"""Dynamic fine-tuning (Wu et al. 2025, arXiv 2508.05629): −mean_t sg(π(y*_t)) log π(y*_t)."""


class Otr(struct.PyTreeNode):
    """Coefficients of OTR. The paper's temperature and β are our reading."""

    temperature: float = hyper(1.3, above=0)
    """Temperature at which tokens are drawn."""
    wrong_reward: float = hyper(-0.1, at_most=1)
    """β: reward of a token that is not the demonstration's, whose reward is 1."""


def otr_loss(surrogate: jax.Array, x: Inputs, coefs: Otr) -> jax.Array:
    """Take a policy gradient over tokens that are drawn at each place of a demonstration.

    The paper draws 256 tokens. Our choice is their expectation, a sum over the vocabulary.
    """
    log_probs = x.policy.demonstration_log_probs
    drawn = stop_gradient(jax.nn.softmax(log_probs / coefs.temperature))
    truth = jax.nn.one_hot(x.answers.demonstration, log_probs.shape[-1])
    reward = truth + coefs.wrong_reward * (1 - truth)
    gain = (drawn * reward * log_probs).sum(-1)
    return -mean_of_answers(gain, x.answers.demonstration_mask).mean()


OTR = SFT._replace(name="otr", coefs=Otr(), loss=otr_loss)
"""One-token rollout: supervised data as one-step episodes (arXiv 2509.26313).

−mean_t Σ_v sg(π_T(v)) R(v) log π(v), R = 1 where v = y*_t and β elsewhere
"""


class Hpt(Clip):
    """Coefficients of HPT."""

    gate: float = hyper(0.0, at_least=0, at_most=1)
    """Accuracy of a group up to which the demonstration is imitated."""
    imitation_coef: float = hyper(1.0, at_least=0)
    """Weight of the imitation; our choice."""


def gated_loss(
    surrogate: jax.Array, x: Inputs, coefs: Any, imitated: jax.Array, weight: jax.Array
) -> jax.Array:
    """Imitate some prompts' demonstrations, and maximise the others' surrogate.

    Args:
        surrogate: what each token contributes.
        x: what an objective reads.
        coefs: coefficients.
        imitated: bool `[P]`, whose demonstrations are imitated.
        weight: weight of the imitation.
    """
    mask = x.answers.mask & ~imitated[:, None, None]
    penalty = coefs.kl_coef * fixed_length_mean(losses.kl_to_reference(x), mask)
    return penalty - fixed_length_mean(surrogate, mask) - (weight * imitated * imitation(x)).mean()


def hpt_loss(surrogate: jax.Array, x: Inputs, coefs: Hpt) -> jax.Array:
    """Imitate where the group's accuracy is not above the gate."""
    imitated = accuracy(x.answers)[:, 0] <= coefs.gate
    return gated_loss(surrogate, x, coefs, imitated, coefs.imitation_coef)


HPT = Objective(
    name="hpt",
    coefs=Hpt(),
    advantage=centred,
    weight=clipped,
    loss=hpt_loss,
    needs=DEMONSTRATION,
)
"""Hybrid post-training: per prompt, SFT or Dr. GRPO (Lv et al. 2025, arXiv 2509.04419).

−mean_t log π(y*_t) where r̄ ≤ γ, and Dr. GRPO's loss elsewhere
"""


class Red(Clip):
    """Coefficients of RED; all are our choice."""

    gate: float = hyper(0.25, at_least=0, at_most=1)
    """Accuracy of a group up to which the demonstration is imitated."""
    weight_max: float = hyper(1.0, at_least=0)
    """Largest weight of the imitation."""


def surprise(log_prob: jax.Array, log_probs: jax.Array) -> jax.Array:
    """Compute −log π(v) − H: entropy rises with the probability of a token of positive surprise."""
    return -log_prob - entropy(log_probs)


def red_loss(surrogate: jax.Array, x: Inputs, coefs: Red) -> jax.Array:
    """Imitate with the weight at which the entropy changes of both kinds of data cancel.

    Only the abstract is known to us: the weight of SFT follows the ratio of the entropy changes on
    offline and on online data, and each prompt's accuracy chooses imitation or RL. A natural
    gradient step on A log π(v) changes the entropy by A (−log π(v) − H) to first order. Our weight
    is −online/offline where the two changes have opposite signs, and 0 where they do not.
    """
    policy, answers = jax.tree.map(stop_gradient, x.policy), x.answers
    online = answers.advantage * surprise(policy.log_prob, policy.log_probs)
    demonstrated = stop_gradient(demonstrated_log_prob(x))
    offline = surprise(demonstrated, policy.demonstration_log_probs)
    imitated = accuracy(answers)[:, 0] <= coefs.gate
    online = losses.token_mean(online, answers.mask & ~imitated[:, None, None])
    offline = losses.token_mean(offline, answers.demonstration_mask & imitated[:, None])
    ratio = jnp.abs(online) / jnp.maximum(jnp.abs(offline), 1e-3)
    weight = jnp.where(online * offline < 0, jnp.minimum(ratio, coefs.weight_max), 0.0)
    return gated_loss(surrogate, x, coefs, imitated, weight)


RED = HPT._replace(name="red", coefs=Red(), loss=red_loss)
"""Recall-extend dynamics (Guan et al. 2025, arXiv 2508.16677), after its abstract: see `red_loss`.

SFT where r̄ is low, with a weight from the ratio of entropy changes, and Dr. GRPO elsewhere
"""


class Relift(Clip):
    """Coefficients of ReLIFT."""

    buffer: float = hyper(32.0, at_least=1)
    """Failed prompts that are gathered before they are imitated; 128 in the paper."""
    imitation_coef: float = hyper(1.0, at_least=0)
    """Weight of the imitation; our choice."""
    entropy_coef: float = hyper(1e-3, at_least=0)
    """Weight of the policy's entropy on demonstrations."""


class Buffer(NamedTuple):
    """Prompts that failed."""

    waiting: jax.Array  # bool [num_prompts], gathered until there are enough
    studied: jax.Array  # bool [num_prompts], those of the last full buffer, not yet imitated


def init_buffer(num_prompts: int, num_bins: int) -> Buffer:
    """Start without failed prompts."""
    return Buffer(jnp.zeros(num_prompts, bool), jnp.zeros(num_prompts, bool))


def choose_waiting(
    key: jax.Array, state: Buffer, difficulty: jax.Array, num: int, coefs: Relift
) -> jax.Array:
    """Choose different prompts at random; while there is imitation, studied ones come first."""
    last = state.studied.any() & ~state.studied
    order = jnp.lexsort((jax.random.uniform(key, last.shape), last))
    return order[jnp.arange(num) % len(order)]


def is_imitated(x: Inputs) -> jax.Array:
    """Whether the demonstration of each prompt is imitated in this update: bool `[P]`."""
    return x.state.studied[x.answers.prompt]


def observe_failures(x: Inputs, coefs: Relift) -> Buffer:
    """Gather prompts without a correct answer, and study them all once there are enough."""
    prompt, imitated = x.answers.prompt, is_imitated(x)
    failed = (accuracy(x.answers)[:, 0] == 0) & ~imitated
    waiting = x.state.waiting.at[prompt].max(failed)
    studied = x.state.studied.at[prompt].min(~imitated)
    begins = ~studied.any() & (waiting.sum() >= coefs.buffer)
    return Buffer(waiting & ~begins, jnp.where(begins, waiting, studied))


def relift_loss(surrogate: jax.Array, x: Inputs, coefs: Relift) -> jax.Array:
    """Imitate prompts of a full buffer, and do GRPO on others."""
    imitated = is_imitated(x)
    spread = entropy(x.policy.demonstration_log_probs)
    gain = imitation(x) + coefs.entropy_coef * mean_of_answers(spread, x.answers.demonstration_mask)
    others = x.answers.mask & ~imitated[:, None, None]
    rest = maximise(surrogate, x._replace(answers=x.answers._replace(mask=others)), coefs)
    return rest - coefs.imitation_coef * (imitated * gain).mean()


RELIFT = Objective(
    name="relift",
    coefs=Relift(),
    advantage=standardised,
    weight=clipped,
    loss=relift_loss,
    sampler=Sampler(init_buffer, observe_failures, choose_waiting),
    needs=DEMONSTRATION,
)
"""ReLIFT: GRPO, interleaved with SFT on what fails (Ma et al. 2025, arXiv 2506.07527).

GRPO. Prompts with r̄ = 0 are gathered. Once there are enough, the next batches are drawn from them,
and their loss is −mean_t log π(y*_t), until each was imitated once. These batches replace those of
GRPO; in the published code they come in addition.
"""

OBJECTIVES = losses.table(SFT, DFT, OTR, HPT, RED, RELIFT)
