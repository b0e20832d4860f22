"""Advantages that several objectives share: how good an answer is beside the others.

Every advantage is a function `(x, coefs) -> [P, G, 1]`, or `[P, G, T]` where tokens differ.
Standard deviations are those of a sample (divided by n − 1), as in TRL and verl.
"""

from typing import Any

import jax
import jax.numpy as jnp

from algos.objectives.inputs import Answers, Inputs

EPSILON = 1e-6
"""Added to a standard deviation before dividing by it."""


def centre(values: jax.Array) -> jax.Array:
    """Subtract the mean of each group: `[P, G]` to `[P, G]`; equal values give exactly 0."""
    values = values - values[..., :1]
    return values - values.mean(-1, keepdims=True)


def standardise(values: jax.Array) -> jax.Array:
    """Subtract each group's mean and divide by its standard deviation: `[P, G]` to `[P, G]`."""
    values = centre(values)
    return values / (values.std(-1, ddof=1, keepdims=True) + EPSILON)


def standardise_within(values: jax.Array, same: jax.Array) -> jax.Array:
    """Standardise among some answers of the group.

    Args:
        values: float32 `[P, G]`.
        same: bool `[P, G, G]`, whether an answer is compared with another one.

    Returns:
        float32 `[P, G]`, 0 for an answer that is compared only with itself.
    """
    count, apart = same.sum(-1), values[:, None, :] - values[:, :, None]
    mean = jnp.where(same, apart, 0.0).sum(-1) / count
    squares = jnp.where(same, (apart - mean[..., None]) ** 2, 0.0).sum(-1)
    return -mean / (jnp.sqrt(squares / jnp.maximum(count - 1, 1)) + EPSILON)


def whiten(values: jax.Array) -> jax.Array:
    """Standardise over all values at once."""
    return (values - values.mean()) / (values.std(ddof=min(values.size - 1, 1)) + EPSILON)


def whiten_tokens(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Standardise over all tokens at once, so that a long answer counts more: `[P, G, T]`."""
    values = jnp.broadcast_to(values, mask.shape)
    mean, deviation = token_moments(values, mask, axis=(0, 1, 2))
    return (values - mean) / (deviation + EPSILON)


def token_moments(
    values: jax.Array, mask: jax.Array, axis: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Compute mean and standard deviation of the tokens that are there, with axes kept."""
    count = mask.sum(axis, keepdims=True)
    one = jnp.where(mask, values, -jnp.inf).max(axis, keepdims=True)  # the mean, if all are equal
    one = jnp.where(count > 0, one, 0.0)
    mean = one + jnp.where(mask, values - one, 0.0).sum(axis, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.where(mask, (values - mean) ** 2, 0.0).sum(axis, keepdims=True)
    return mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1))


def lengths(mask: jax.Array) -> jax.Array:
    """Count the tokens of each answer, at least 1: float32 `[P, G]`."""
    return jnp.maximum(mask.sum(-1), 1).astype(jnp.float32)


def is_last(mask: jax.Array) -> jax.Array:
    """Mark the last token of each answer: bool `[P, G, T]`."""
    return jnp.arange(mask.shape[-1]) == mask.sum(-1, keepdims=True) - 1


def accuracy(answers: Answers) -> jax.Array:
    """Return the share of correct answers in each group, r̄: `[P, 1]`."""
    return answers.reward.mean(-1, keepdims=True)


def nothing(x: Inputs, coefs: Any) -> jax.Array:
    """Return 0: the objective has no advantage."""
    return jnp.zeros_like(x.answers.reward)[..., None]


def correct(x: Inputs, coefs: Any) -> jax.Array:
    """Return the reward itself, r: the loss compares the answers."""
    return x.answers.reward[..., None]


def centred(x: Inputs, coefs: Any) -> jax.Array:
    """Compute r − r̄."""
    return centre(x.answers.reward)[..., None]


def standardised(x: Inputs, coefs: Any) -> jax.Array:
    """Compute (r − r̄)/(σ + 1e-6), with mean and deviation of the group."""
    return standardise(x.answers.reward)[..., None]


def scaled_by_batch(x: Inputs, coefs: Any) -> jax.Array:
    """Compute (r − r̄)/(σ + 1e-6), with the mean of the group and the batch's deviation."""
    deviation = x.answers.reward.std(ddof=1)
    return centre(x.answers.reward)[..., None] / (deviation + EPSILON)
