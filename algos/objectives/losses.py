"""The loss of an objective, and what several share: how tokens are averaged, and what is added.

Every average is a function `(values [P, G, T], mask) -> float32 []`. They differ in how much a long
answer counts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from algos.objectives.advantages import lengths
from algos.objectives.inputs import Inputs, Objective
from algos.objectives.weights import log_ratio, log_ratio_to_reference
from purejaxrl.parts.divergences import k3

Average = Callable[[jax.Array, jax.Array], jax.Array]


def mean_of_answers(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Average the tokens of each answer: float32 `[P, G]`."""
    return jnp.where(mask, values, 0.0).sum(-1) / lengths(mask)


def answer_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Average the tokens of each answer, then the answers: every answer counts the same."""
    return mean_of_answers(values, mask).mean()


def token_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Average all tokens: every token counts the same."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def fixed_length_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Divide the sum over tokens by the constant number of them if all answers had full length."""
    return jnp.where(mask, values, 0.0).sum() / mask.size


def answer_sum(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Add up the tokens of each answer, and average the answers."""
    return jnp.where(mask, values, 0.0).sum(-1).mean()


def entropy(log_probs: jax.Array) -> jax.Array:
    """Compute the entropy of each distribution, from all its log-probabilities `[..., V]`."""
    return -(jnp.exp(log_probs) * log_probs).sum(-1)


def kl_to_reference(x: Inputs) -> jax.Array:
    """Estimate KL(π ‖ π_ref) at each token by π_ref/π − log π_ref/π − 1 (k3): `[P, G, T]`."""
    return k3(-log_ratio_to_reference(x))


def maximise(
    surrogate: jax.Array, x: Inputs, coefs: Any, average: Average = answer_mean
) -> jax.Array:
    """Negate the average of the surrogate, and add the KL divergence to the reference policy.

    Args:
        surrogate: what each token contributes.
        x: what an objective reads.
        coefs: coefficients; `kl_coef` is read.
        average: how tokens are averaged.
    """
    penalty = coefs.kl_coef * average(kl_to_reference(x), x.answers.mask)
    return penalty - average(surrogate, x.answers.mask)


def compute_loss(objective: Objective, coefs: Any, x: Inputs) -> tuple[jax.Array, dict]:
    """Compute the loss of a minibatch of prompts, and metrics.

    Args:
        objective: what to minimise.
        coefs: its coefficients.
        x: the answers with their advantages, and the current policy on them.

    Returns:
        The loss, float32 [], and float32 [] metrics, which are means over tokens.
    """
    mask = x.answers.mask
    surrogate = jnp.where(mask, objective.weight(x, coefs), 0.0)
    loss = objective.loss(surrogate, x, coefs)
    metrics = {
        "policy_loss": loss,
        "entropy": token_mean(entropy(x.policy.log_probs), mask),
        "approx_kl": token_mean(k3(log_ratio(x)), mask),
        "kl_to_reference": token_mean(kl_to_reference(x), mask),
    }
    return loss, metrics


def push(objective: Objective, coefs: Any, x: Inputs) -> jax.Array:
    """Compute how hard an objective pushes each answer's log-probability up: float32 `[P, G]`.

    It is −∂loss/∂log π, summed over the answer's tokens, for what the loss reads of them.
    """

    def loss_of(log_prob: jax.Array) -> jax.Array:
        policy = x.policy._replace(log_prob=log_prob)
        return compute_loss(objective, coefs, x._replace(policy=policy))[0]

    return -jax.grad(loss_of)(x.policy.log_prob).sum(-1)


def table(*objectives: Objective) -> dict[str, Objective]:
    """Put objectives into a table by their names."""
    return {objective.name: objective for objective in objectives}
