"""Objectives that keep a policy from collapsing onto few answers."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from algos.objectives import losses
from algos.objectives.advantages import accuracy, standardise, standardised
from algos.objectives.inputs import Inputs, Objective, Sampler
from algos.objectives.losses import answer_mean, entropy, maximise, token_mean
from algos.objectives.weights import Clip, clipped
from purejaxrl.parts.divergences import kl_divergence
from purejaxrl.validation import hyper


class Unlikeliness(Clip):
    """Coefficients of the unlikeliness reward."""

    rank_coef: float = hyper(0.25, at_least=0, at_most=1)
    """β: share of its reward that the most likely answer would lose in a large group."""


def unlikely(x: Inputs, coefs: Unlikeliness) -> jax.Array:
    """Standardise r (1 − β rank/G); rank 0 is the least likely answer of the group."""
    likelihood = jnp.where(x.answers.mask, x.answers.old_log_prob, 0.0).sum(-1)
    rank = jnp.argsort(jnp.argsort(likelihood, axis=-1), axis=-1)
    reward = x.answers.reward * (1 - coefs.rank_coef * rank / rank.shape[-1])
    return standardise(reward)[..., None]


UNLIKELINESS = Objective(
    name="unlikeliness",
    coefs=Unlikeliness(),
    advantage=unlikely,
    weight=clipped,
    loss=maximise,
)
"""GRPO with the unlikeliness reward (He et al. 2025, arXiv 2506.02355).

r_i ← r_i (1 − β rank_i/G), where the most likely answer of a group has the highest rank
"""


class LpReg(Clip):
    """Coefficients of Lp-Reg."""

    proxy_coef: float = hyper(1.0, at_least=0)
    """Weight of the divergence from the proxy; our choice."""
    noise: float = hyper(0.02, at_least=0, below=1)
    """τ: less likely tokens are noise, and have probability 0 in the proxy."""
    rare: float = hyper(0.01, at_least=0, at_most=1)
    """Share of the sampled tokens that counts as unlikely."""


def lp_reg_loss(surrogate: jax.Array, x: Inputs, coefs: LpReg) -> jax.Array:
    """Add KL(π̃ ‖ π) where a rare token has a negative advantage and a probability above τ.

    So tokens that are unlikely, but no noise, are not pushed out.
    """
    log_probs, mask = x.policy.log_probs, x.answers.mask
    old = stop_gradient(log_probs)
    kept = (old > jnp.log(coefs.noise)) | (old == old.max(-1, keepdims=True))  # one at least
    proxy = jax.nn.log_softmax(jnp.where(kept, old, -jnp.inf))
    apart = jnp.where(kept, jnp.exp(proxy) * (jnp.where(kept, proxy, 0.0) - log_probs), 0.0)
    token = stop_gradient(x.policy.log_prob)
    limit = jnp.nanquantile(jnp.where(mask, token, jnp.nan), coefs.rare)
    held = (token <= limit) & (token > jnp.log(coefs.noise)) & (x.answers.advantage < 0)
    penalty = token_mean(jnp.where(held, apart.sum(-1), 0.0), mask)
    return maximise(surrogate, x, coefs) + coefs.proxy_coef * penalty


LP_REG = Objective(
    name="lp_reg",
    coefs=LpReg(),
    advantage=standardised,
    weight=clipped,
    loss=lp_reg_loss,
)
"""Low-probability regularisation (Huang et al. 2025, arXiv 2510.03222).

GRPO + β mean over tokens of KL(π̃ ‖ π) 1[the sampled token is rare, has Â < 0 and π > τ], where
π̃ ∝ sg(π 1[π > τ])
"""


class Aepo(Clip):
    """Coefficients of AEPO. The temperatures and α are our choice."""

    target_entropy: float = hyper(0.5, at_least=0)
    """H*: entropy per token that is aimed at."""
    tempered_coef: float = hyper(0.1, at_least=0)
    """α: weight of the correct answers at another temperature."""
    temperature_high: float = hyper(1.2, above=0)
    """Temperature where the entropy is below H*."""
    temperature_low: float = hyper(0.8, above=0)
    """Temperature elsewhere."""


def aepo_loss(surrogate: jax.Array, x: Inputs, coefs: Aepo) -> jax.Array:
    """Add the log-likelihood of correct answers at the temperature that corrects the entropy.

    Our choice is not to draw them: the group's answers are weighted by the ratio of the tempered to
    the old policy, and the weights of its correct answers add up to 1.
    """
    mask, policy = x.answers.mask, jax.tree.map(stop_gradient, x.policy)
    low = token_mean(entropy(policy.log_probs), mask) < coefs.target_entropy
    temperature = jnp.where(low, coefs.temperature_high, coefs.temperature_low)
    normaliser = jax.nn.logsumexp(policy.log_probs / temperature, axis=-1)
    tempered = policy.log_prob / temperature - normaliser
    log_weight = jnp.where(mask, tempered - x.answers.old_log_prob, 0.0).sum(-1)
    right = x.answers.reward > 0
    some = right.any(-1, keepdims=True)
    share = jax.nn.softmax(jnp.where(right | ~some, log_weight, -jnp.inf)) * right
    likelihood = losses.mean_of_answers(x.policy.log_prob, mask)
    gain = (share * likelihood).sum(-1).mean()
    return maximise(surrogate, x, coefs) - coefs.tempered_coef * gain


AEPO = Objective(name="aepo", coefs=Aepo(), advantage=standardised, weight=clipped, loss=aepo_loss)
"""Arbitrary entropy policy optimisation (arXiv 2510.08141).

GRPO + α E[(1/L) log π(y)] over correct y ∼ π^T, with T = T_high where H < H* and T_low elsewhere
"""


class Epo(Clip):
    """Coefficients of EPO."""

    entropy_coef: float = hyper(1e-3, at_least=0)
    """λ: weight of the entropy."""
    lower: float = hyper(0.5, at_least=0)
    """κ_l: share of the past entropy below which a token is penalised."""
    upper: float = hyper(1.5, at_least=0)
    """κ_r: share of the past entropy above which a token is penalised."""
    outside_penalty: float = hyper(0.1, at_least=0)
    """Penalty of a token whose entropy is outside this range."""
    smooth: float = hyper(1.0, at_least=0)
    """β_k: weight of the penalty."""


class PastEntropy(NamedTuple):
    """Running sums over the updates done, float32 []."""

    total: jax.Array
    count: jax.Array


def init_past(num_prompts: int, num_bins: int) -> PastEntropy:
    """Start without a past."""
    return PastEntropy(jnp.float32(0), jnp.float32(0))


def observe_entropy(x: Inputs, coefs: Epo) -> PastEntropy:
    """Add the mean entropy of the policy that sampled."""
    now = token_mean(x.answers.entropy, x.answers.mask)
    return PastEntropy(x.state.total + now, x.state.count + 1)


def epo_loss(surrogate: jax.Array, x: Inputs, coefs: Epo) -> jax.Array:
    """Add an entropy bonus, minus a penalty for tokens whose entropy leaves its past range.

    The penalty is constant on either side of a bound, so it has no gradient: here as in the
    published code, only the bonus moves the policy.
    """
    mask, spread = x.answers.mask, entropy(x.policy.log_probs)
    past = x.state.total / jnp.maximum(x.state.count, 1)
    outside = (spread < coefs.lower * past) | (spread > coefs.upper * past)
    penalty = jnp.where(outside & (x.state.count > 0), coefs.outside_penalty, 0.0)
    bonus = answer_mean(spread, mask) - coefs.smooth * answer_mean(penalty, mask)
    return maximise(surrogate, x, coefs) - coefs.entropy_coef * bonus


EPO = Objective(
    name="epo",
    coefs=Epo(),
    advantage=standardised,
    weight=clipped,
    loss=epo_loss,
    sampler=Sampler(init_past, observe_entropy),
)
"""Entropy-regularised policy optimisation (Xu et al. 2025, arXiv 2509.22576).

GRPO + λ mean of H − β_k penalty 1[H ∉ [κ_l, κ_r] · mean of past H]
"""


class Dph(Clip):
    """Coefficients of DPH-RL; both are our choice."""

    solved: float = hyper(1.0, at_least=0, at_most=1)
    """Accuracy of a group from which its prompt is solved."""
    divergence_coef: float = hyper(0.1, at_least=0)
    """Weight of the divergence on solved prompts."""


def forward_kl(x: Inputs) -> jax.Array:
    """Compute KL(π_ref ‖ π) over the vocabulary: `[P, G, T]`."""
    return kl_divergence(x.answers.ref_log_probs, x.policy.log_probs)


def jensen_shannon(x: Inputs) -> jax.Array:
    """Compute the Jensen-Shannon divergence of π and π_ref over the vocabulary: `[P, G, T]`."""
    ref, new = x.answers.ref_log_probs, x.policy.log_probs
    middle = jnp.logaddexp(ref, new) - jnp.log(2.0)
    return 0.5 * (jnp.exp(ref) * (ref - middle) + jnp.exp(new) * (new - middle)).sum(-1)


def dph_loss(surrogate: jax.Array, x: Inputs, coefs: Dph, divergence: Any) -> jax.Array:
    """Maximise the surrogate of hard prompts, and stay near the reference on solved ones."""
    mask = x.answers.mask
    solved = (accuracy(x.answers) >= coefs.solved)[..., None]
    hard = jnp.where(solved, 0.0, surrogate - coefs.kl_coef * losses.kl_to_reference(x))
    easy = jnp.where(solved, divergence(x), 0.0)
    return coefs.divergence_coef * answer_mean(easy, mask) - answer_mean(hard, mask)


DPH_RL = Objective(
    name="dph_rl",
    coefs=Dph(),
    advantage=standardised,
    weight=clipped,
    loss=partial(dph_loss, divergence=forward_kl),
    needs=("ref_log_probs",),
)
"""Diversity-preserving hybrid RL (Li et al. 2025, arXiv 2509.07430), with forward KL.

Hard prompts: the clipped surrogate without KL. Solved prompts: KL(π_ref ‖ π), which covers all that
the reference does. The paper takes it over samples of π_ref. Our choice is the exact divergence at
each token of the sampled answers.
"""

DPH_RL_JS = DPH_RL._replace(name="dph_rl_js", loss=partial(dph_loss, divergence=jensen_shannon))
"""Diversity-preserving hybrid RL with the Jensen-Shannon divergence."""

OBJECTIVES = losses.table(UNLIKELINESS, LP_REG, AEPO, EPO, DPH_RL, DPH_RL_JS)
