"""Scores of levels: how much a student might have to learn on one.

A score is a function `(key, Outcome) -> float32 []`; what it does not read is not computed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Outcome(NamedTuple):
    """What came of a student's visit to a level. Of episodes, NaN stands for none."""

    advantage: jax.Array  # float32 [...], of its last experience there
    value: jax.Array  # float32 [...], as it judged then
    returns: jax.Array  # float32 [...], of episodes
    best_return: jax.Array  # float32 [], the highest that any student had on the level
    antagonist_returns: jax.Array  # float32 [...], of episodes of an antagonist


def algorithmic_regret(key: jax.Array, outcome: Outcome) -> jax.Array:
    """Return of an antagonist by a hand-made algorithm, less the student's (GROOVE eq. 4)."""
    return jnp.nanmean(outcome.antagonist_returns) - jnp.nanmean(outcome.returns)


def positive_value_loss(key: jax.Array, outcome: Outcome) -> jax.Array:
    """Mean positive part of the advantage (robust PLR, arXiv 2110.02439, eq. 5)."""
    return jnp.maximum(outcome.advantage, 0.0).mean()


def l1_value_loss(key: jax.Array, outcome: Outcome) -> jax.Array:
    """Mean magnitude of the advantage (PLR, arXiv 2010.03934, section 3.1)."""
    return jnp.abs(outcome.advantage).mean()


def max_monte_carlo(key: jax.Array, outcome: Outcome) -> jax.Array:
    """Highest return known less the value, averaged (robust PLR, section 4)."""
    return (outcome.best_return - outcome.value).mean()


def learnability(key: jax.Array, outcome: Outcome) -> jax.Array:
    """p(1 - p) with p the part of episodes of a positive return (SFL, arXiv 2408.15099)."""
    finished = ~jnp.isnan(outcome.returns)
    rate = (finished & (outcome.returns > 0)).sum() / jnp.maximum(finished.sum(), 1)
    return rate * (1 - rate)


def random(key: jax.Array, outcome: Outcome) -> jax.Array:
    """Draw a number in [0, 1): what scores have to beat."""
    return jax.random.uniform(key)


def episode_returns(reward: jax.Array, done: jax.Array) -> jax.Array:
    """Return of the episode that each step ended, NaN where it ended none: `[T, ...]`.

    Args:
        reward: `[T, ...]`, of episodes that begin with the first step.
        done: bool `[T, ...]`, terminated or truncated.
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
"""By the names that command lines have for them."""
