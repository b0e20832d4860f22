"""Objectives that treat the ratio of new to old policy in another way than PPO's clip does.

ρ_t is the ratio of a token, s = (π(y)/π_old(y))^{1/L} that of an answer per token, and
W = π(y)/π_old(y) that of a whole answer. sg stops the gradient.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from algos.objectives import losses
from algos.objectives.advantages import EPSILON, scaled_by_batch, standardised
from algos.objectives.inputs import Inputs, Objective
from algos.objectives.losses import maximise
from algos.objectives.weights import (
    Clip,
    Kl,
    answer_log_ratio,
    clipped_answers,
    log_likelihood,
    log_ratio,
)
from purejaxrl.parts.divergences import MOST, bounded_exp
from purejaxrl.validation import hyper

GSPO = Objective(
    name="gspo",
    coefs=Clip(clip_low=3e-4, clip_high=4e-4),
    advantage=standardised,
    weight=clipped_answers,
    loss=maximise,
)
"""Group sequence policy optimisation: one ratio per answer (Zheng et al. 2025, arXiv 2507.18071).

(1/G) Σ_i min(s_i Â_i, clip(s_i, 1 − ε_low, 1 + ε_high) Â_i)
"""

LUSPO = Objective(
    name="luspo",
    coefs=Clip(clip_low=2e-3, clip_high=2.5e-3),
    advantage=standardised,
    weight=clipped_answers,
    loss=partial(maximise, average=losses.answer_sum),
)
"""Length-unbiased sequence policy optimisation (arXiv 2602.05261): GSPO times the length.

(1/G) Σ_i L_i min(s_i Â_i, clip(s_i, 1 − ε_low, 1 + ε_high) Â_i)
"""


class Cispo(Kl):
    """Coefficients of CISPO."""

    ratio_max: float = hyper(5.0, above=0)
    """Largest ρ that a token is weighted by."""


def capped(x: Inputs, coefs: Cispo) -> jax.Array:
    """Clip the weight of a token, never its gradient: sg(min(ρ, ε_max)) Â log π."""
    weight = stop_gradient(jnp.minimum(bounded_exp(log_ratio(x)), coefs.ratio_max))
    return weight * log_likelihood(x, coefs)


CISPO = Objective(
    name="cispo",
    coefs=Cispo(),
    advantage=scaled_by_batch,
    weight=capped,
    loss=partial(maximise, average=losses.token_mean),
)
"""CISPO (MiniMax 2025, arXiv 2506.13585), with ScaleRL's advantage and ε_max (arXiv 2510.13786).

mean over tokens of sg(min(ρ, ε_max)) Â log π, Â = (r − r̄)/(σ_batch + 1e-6)
"""


class Topr(Kl):
    """Coefficients of TOPR."""

    baseline: float = hyper(0.0, at_least=-1, at_most=1)
    """Subtracted from rewards of ±1; the paper has values from −0.1 to 0."""


def signed_reward(x: Inputs, coefs: Topr) -> jax.Array:
    """Return 1 for a correct answer and −1 for a wrong one, minus the baseline."""
    return (2 * x.answers.reward - 1)[..., None] - coefs.baseline


def tapered(x: Inputs, coefs: Topr) -> jax.Array:
    """Weigh negative answers by sg(min(W, 1)), and positive ones by 1."""
    taper = stop_gradient(jnp.exp(jnp.minimum(answer_log_ratio(x), 0.0)))
    return jnp.where(x.answers.advantage < 0, taper, 1.0) * log_likelihood(x, coefs)


TOPR = Objective(
    name="topr",
    coefs=Topr(),
    advantage=signed_reward,
    weight=tapered,
    loss=partial(maximise, average=losses.answer_sum),
    fewest_answers=1,
)
"""Tapered off-policy REINFORCE (Le Roux et al. 2025, arXiv 2503.14286).

Σ_{A > 0} A log π(y) + Σ_{A < 0} sg(min(W, 1)) A log π(y), A = ±1 − baseline
"""


class Gmpo(Kl):
    """Coefficients of GMPO."""

    clip_log: float = hyper(0.4, above=0)
    """How far log ρ may leave 0."""


def geometric(x: Inputs, coefs: Gmpo) -> jax.Array:
    """Take the geometric mean of ratios that are clipped on the side that the advantage rewards."""
    log_rho, sign = log_ratio(x), jnp.sign(x.answers.advantage)
    clipped = jnp.clip(log_rho, -coefs.clip_log, coefs.clip_log)
    least = sign * jnp.minimum(sign * log_rho, sign * clipped)
    mean = bounded_exp(losses.mean_of_answers(least, x.answers.mask))
    return mean[..., None] * x.answers.advantage


GMPO = Objective(name="gmpo", coefs=Gmpo(), advantage=standardised, weight=geometric, loss=maximise)
"""Geometric-mean policy optimisation (Zhao et al. 2025, arXiv 2507.20673).

(1/G) Σ_i (Π_t ρ̃_t)^{1/L_i} Â_i, where ρ̃ is ρ clipped to e^{±ε} on the side that Â rewards
"""


class Sapo(Kl):
    """Coefficients of SAPO."""

    temperature_positive: float = hyper(1.0, above=0)
    """How steep the gate is where the advantage is positive."""
    temperature_negative: float = hyper(1.05, above=0)
    """How steep the gate is elsewhere."""


def gated(x: Inputs, coefs: Sapo) -> jax.Array:
    """Replace ρ by a smooth gate, (4/τ) σ(τ(ρ − 1)), whose slope is 1 at ρ = 1."""
    advantage = x.answers.advantage
    tau = jnp.where(advantage > 0, coefs.temperature_positive, coefs.temperature_negative)
    return 4 / tau * jax.nn.sigmoid(tau * (bounded_exp(log_ratio(x)) - 1)) * advantage


SAPO = Objective(name="sapo", coefs=Sapo(), advantage=standardised, weight=gated, loss=maximise)
"""Soft adaptive policy optimisation (Gao et al. 2025, arXiv 2511.20347).

(1/G) Σ_i (1/L_i) Σ_t (4/τ) σ(τ(ρ_t − 1)) Â_i, where τ depends on the sign of Â
"""


class Vespo(Kl):
    """Coefficients of VESPO."""

    power_positive: float = hyper(2.0, at_least=0)
    """k where the advantage is not negative."""
    decay_positive: float = hyper(3.0, above=0)
    """λ where the advantage is not negative."""
    power_negative: float = hyper(3.0, at_least=0)
    """k where the advantage is negative."""
    decay_negative: float = hyper(2.0, above=0)
    """λ where the advantage is negative."""


def gamma_weighted(x: Inputs, coefs: Vespo) -> jax.Array:
    """Weigh a whole answer by sg(W^k e^{λ(1 − W)}), which is 1 at W = 1 and fades on both sides."""
    negative = x.answers.advantage < 0
    k = jnp.where(negative, coefs.power_negative, coefs.power_positive)
    decay = jnp.where(negative, coefs.decay_negative, coefs.decay_positive)
    log_w = jnp.clip(stop_gradient(answer_log_ratio(x)), -MOST, MOST)
    return jnp.exp(k * log_w + decay * (1 - jnp.exp(log_w))) * log_likelihood(x, coefs)


VESPO = Objective(
    name="vespo",
    coefs=Vespo(),
    advantage=standardised,
    weight=gamma_weighted,
    loss=partial(maximise, average=losses.token_mean),
)
"""Variational sequence-level soft policy optimisation (arXiv 2602.10693).

mean over tokens of sg(W^k e^{λ(1 − W)}) Â log π, where k and λ depend on the sign of Â
"""


class Gbpo(Kl):
    """Coefficients of GBPO."""

    reach: float = hyper(0.3, above=0)
    """c: targets are in [1 − c, 1 + c]."""
    temperature: float = hyper(1e-4, above=0)
    """λ: width of the sigmoid, in standard deviations of the group's rewards. With a small one, the
    target is 1 − c below the median and 1 + c above it."""


def bounded(x: Inputs, coefs: Gbpo) -> jax.Array:
    """Draw ρ towards a target ratio: −|(ρ − ρ*) Â|, ρ* = 1 − c + 2c σ((r − median)/(σ_r λ))."""
    reward = x.answers.reward
    apart = reward - jnp.median(reward, axis=-1, keepdims=True)
    scale = coefs.temperature * (reward.std(-1, ddof=1, keepdims=True) + EPSILON)
    target = 1 - coefs.reach + 2 * coefs.reach * jax.nn.sigmoid(apart / scale)
    return -jnp.abs((bounded_exp(log_ratio(x)) - target[..., None]) * x.answers.advantage)


GBPO = Objective(
    name="gbpo",
    coefs=Gbpo(),
    advantage=standardised,
    weight=bounded,
    loss=partial(maximise, average=losses.token_mean),
)
"""Group bounded policy optimisation: no clip, but a target for ρ (arXiv 2604.18578).

mean over tokens of −|(ρ − ρ*) Â|, ρ* = 1 − c + 2c σ((r − median)/(σ_r λ))
"""

OBJECTIVES = losses.table(GSPO, LUSPO, CISPO, TOPR, GMPO, SAPO, VESPO, GBPO)
