"""Objectives that regress or compare pairs of answers to one prompt: all pairs of a group."""

import jax
import jax.numpy as jnp
from flax import struct

from algos.objectives import losses
from algos.objectives.advantages import correct
from algos.objectives.inputs import Inputs, Objective
from algos.objectives.losses import mean_of_answers
from algos.objectives.weights import log_ratio, log_ratio_to_reference
from purejaxrl.validation import hyper


def differences(values: jax.Array) -> jax.Array:
    """Subtract each answer's value from each other one's: `[P, G]` to `[P, G, G]`."""
    return values[:, :, None] - values[:, None, :]


def mean_square_of_pairs(values: jax.Array) -> jax.Array:
    """Average (v_i − v_j)² over pairs of different answers: `[P, G]` to []."""
    size = values.shape[-1]
    return ((differences(values) ** 2).sum((1, 2)) / (size * (size - 1))).mean()


class Rebel(struct.PyTreeNode):
    """Coefficients of REBEL."""

    eta: float = hyper(1.0, above=0)
    """η: step size, in units of the reward."""


def rebel_loss(surrogate: jax.Array, x: Inputs, coefs: Rebel) -> jax.Array:
    """Regress differences of log-ratios on differences of rewards."""
    return mean_square_of_pairs(surrogate.sum(-1) / coefs.eta - x.answers.reward)


REBEL = Objective(name="rebel", coefs=Rebel(), advantage=correct, weight=log_ratio, loss=rebel_loss)
"""Regression to relative rewards (Gao et al. 2024, arXiv 2404.16767).

mean over pairs of ((1/η)(Δ log π/π_old) − Δr)²
"""


class Copg(struct.PyTreeNode):
    """Coefficients of CoPG."""

    beta: float = hyper(0.1, above=0)
    """β: reward that each nat of divergence from the reference policy costs."""


def copg_loss(surrogate: jax.Array, x: Inputs, coefs: Copg) -> jax.Array:
    """Make regularised rewards of all answers to a prompt equal."""
    regularised = x.answers.reward - coefs.beta * surrogate.sum(-1)
    return mean_square_of_pairs(regularised) / (2 * coefs.beta)


COPG = Objective(
    name="copg",
    coefs=Copg(),
    advantage=correct,
    weight=log_ratio_to_reference,
    loss=copg_loss,
)
"""Contrastive policy gradient (Flet-Berliac et al. 2024, arXiv 2406.19185).

mean over pairs of (R_β(y) − R_β(y'))²/(2β), R_β(y) = r − β log π/π_ref. Its optimum is
π_ref e^{r/β}, whatever policy the answers come from.
"""


class Rpo(struct.PyTreeNode):
    """Coefficients of RPO."""

    beta: float = hyper(0.01, above=0)
    """β of DPO: reward that each nat of divergence from the reference policy costs."""
    imitation_coef: float = hyper(0.005, at_least=0)
    """η: weight of the log-likelihood of the chosen answers."""


def rpo_loss(surrogate: jax.Array, x: Inputs, coefs: Rpo) -> jax.Array:
    """Prefer correct to wrong answers, and raise the likelihood of correct ones.

    Each pair of a correct and a wrong answer counts the same within its group.
    """
    right = x.answers.reward > 0
    pairs = right[:, :, None] & ~right[:, None, :]
    num_pairs = jnp.maximum(pairs.sum((1, 2)), 1)
    preferred = jax.nn.log_sigmoid(coefs.beta * differences(surrogate.sum(-1)))
    dpo = jnp.where(pairs, preferred, 0.0).sum((1, 2)) / num_pairs
    chosen = pairs.sum(-1) / num_pairs[:, None]
    sft = (chosen * mean_of_answers(x.policy.log_prob, x.answers.mask)).sum(-1)
    return -(dpo + coefs.imitation_coef * sft).mean()


RPO = Objective(
    name="rpo", coefs=Rpo(), advantage=correct, weight=log_ratio_to_reference, loss=rpo_loss
)
"""Regularised preference optimisation: DPO and SFT (Liu et al. 2024, arXiv 2405.16436).

−log σ(β Δ log π/π_ref) − η (1/L) log π(y⁺), over pairs of a correct and a wrong answer
"""

OBJECTIVES = losses.table(REBEL, COPG, RPO)
