"""Scores of levels: estimates of how much a student can still learn on a level.

A score reads what it needs of a `LevelOutcome`; under `jit`, nothing else is computed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class LevelOutcome(NamedTuple):
    """How a student fared on a level. Returns are NaN where no episode finished."""

    advantage: jax.Array  # float32 [...], of the student's last experience on the level
    value: jax.Array  # float32 [...], the student's estimates on that experience
    returns: jax.Array  # float32 [...], of the student's episodes
    best_return: jax.Array  # float32 [], the highest return that any student had on the level
    antagonist_returns: jax.Array  # float32 [...], of the antagonist's episodes


Score = Callable[[jax.Array, LevelOutcome], jax.Array]
"""`(key, outcome) -> float32 []`; the higher, the more there is to learn. A score that is not
finite is ignored."""


def algorithmic_regret(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Subtract the student's mean return from the antagonist's (GROOVE eq. 4)."""
    return jnp.nanmean(outcome.antagonist_returns) - jnp.nanmean(outcome.returns)


def positive_value_loss(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the positive part of the advantage (robust PLR, arXiv 2110.02439, eq. 5)."""
    return jnp.maximum(outcome.advantage, 0.0).mean()


def l1_value_loss(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the magnitude of the advantage (PLR, arXiv 2010.03934, section 3.1)."""
    return jnp.abs(outcome.advantage).mean()


def max_monte_carlo(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the gap between the highest known return and the value (robust PLR, section 4)."""
    return (outcome.best_return - outcome.value).mean()


def learnability(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Compute p(1 - p); p is the fraction of episodes with a positive return (SFL, 2408.15099)."""
    finished = ~jnp.isnan(outcome.returns)
    rate = (finished & (outcome.returns > 0)).sum() / jnp.maximum(finished.sum(), 1)
    return rate * (1 - rate)


def random(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Draw a number in [0, 1): the baseline that other scores must beat."""
    return jax.random.uniform(key)


def episode_returns(reward: jax.Array, done: jax.Array) -> jax.Array:
    """Compute the returns of episodes, each at its last step.

    Args:
        reward: `[T, ...]`; an episode begins at the first step.
        done: bool `[T, ...]`, terminated or truncated.

    Returns:
        float32 `[T, ...]`; NaN at steps that end no episode.
    """

    def step(total: jax.Array, inputs: tuple[jax.Array, jax.Array]):
        reward, done = inputs
        total += reward
        return jnp.where(done, 0.0, total), jnp.where(done, total, jnp.nan)

    return jax.lax.scan(step, jnp.zeros(reward.shape[1:]), (reward, done), unroll=8)[1]


SCORES = {
    "regret": algorithmic_regret,
    "pvl": positive_value_loss,
    "l1": l1_value_loss,
    "maxmc": max_monte_carlo,
    "learnability": learnability,
    "random": random,
}
"""The scores by their names on command lines."""
