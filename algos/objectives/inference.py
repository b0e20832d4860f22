"""RL as inference: objectives whose target is the policy π* ∝ π_ref e^{r/β}."""

from functools import partial

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import centre
from algos.objectives.inputs import Inputs, Objective
from algos.objectives.weights import Clip, Kl, clipped, log_likelihood, log_ratio_to_reference
from purejaxrl.validation import hyper


class ReverseKl(Clip):
    """Coefficients of RL with a KL penalty in the reward."""

    beta: float = hyper(0.1, at_least=0)
    """β: reward that each nat of divergence from the reference policy costs; our choice."""


def old_log_ratio_to_reference(x: Inputs) -> jax.Array:
    """Compute log π_old/π_ref of whole answers: `[P, G]`."""
    apart = x.answers.old_log_prob - x.answers.ref_log_prob
    return jnp.where(x.answers.mask, apart, 0.0).sum(-1)


def regularised(x: Inputs, coefs: ReverseKl) -> jax.Array:
    """Centre r − β log π_old/π_ref."""
    return centre(x.answers.reward - coefs.beta * old_log_ratio_to_reference(x))[..., None]


REVERSE_KL = Objective(
    name="reverse_kl",
    coefs=ReverseKl(),
    advantage=regularised,
    weight=clipped,
    loss=partial(losses.maximise, average=losses.answer_sum),
)
"""RL as inference by reverse KL: KL(π ‖ π*) is least where E[r − β log π/π_ref] is greatest.

Korbak et al. 2022 (arXiv 2205.11275). The clip and the group's mean as baseline are our choice.
"""


class Gdc(Kl):
    """Coefficients of distribution matching."""

    beta: float = hyper(0.1, above=0)
    """β: temperature of the target; our choice."""


def matching(x: Inputs, coefs: Gdc) -> jax.Array:
    """Compute π*(y)/π_old(y) − 1; the weights π*/π_old of a group are normalised to a mean of 1."""
    logits = x.answers.reward / coefs.beta - old_log_ratio_to_reference(x)
    return (jax.nn.softmax(logits) * logits.shape[-1] - 1)[..., None]


GDC = Objective(
    name="gdc",
    coefs=Gdc(),
    advantage=matching,
    weight=log_likelihood,
    loss=partial(losses.maximise, average=losses.answer_sum),
)
"""RL as inference by forward KL: distribution matching (Khalifa et al. 2021, arXiv 2012.11635).

E over π_old of (π*/π_old − 1) log π(y). That the group normalises π*, and the baseline of 1, are
our choice.
"""


class AStarPo(Kl):
    """Coefficients of A*-PO."""

    beta_value: float = hyper(0.5, above=0)
    """β₁: temperature of the optimal value."""
    beta: float = hyper(1e-3, above=0)
    """β₂: reward that each nat of divergence from the reference policy costs."""


def optimal_advantage(x: Inputs, coefs: AStarPo) -> jax.Array:
    """Compute r − V*, V* = β₁ log E_ref[e^{r/β₁}].

    The paper estimates V* once, from samples of π_ref. Our choice are the group's answers, weighted
    by π_ref/π_old and normalised.
    """
    share = jax.nn.log_softmax(-old_log_ratio_to_reference(x))
    logits = share + x.answers.reward / coefs.beta_value
    value = coefs.beta_value * jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    return (x.answers.reward - value)[..., None]


def astar_loss(surrogate: jax.Array, x: Inputs, coefs: AStarPo) -> jax.Array:
    """Regress β₂ log π/π_ref on the optimal advantage."""
    apart = coefs.beta * surrogate.sum(-1) - x.answers.advantage[..., 0]
    penalty = coefs.kl_coef * losses.answer_mean(losses.kl_to_reference(x), x.answers.mask)
    return (apart**2).mean() + penalty


ASTAR_PO = Objective(
    name="astar_po",
    coefs=AStarPo(),
    advantage=optimal_advantage,
    weight=log_ratio_to_reference,
    loss=astar_loss,
)
"""Optimal advantage regression (Brantley et al. 2025, arXiv 2505.20686).

(β₂ log π/π_ref − (r − V*))²
"""

OBJECTIVES = losses.table(REVERSE_KL, GDC, ASTAR_PO)
