"""Scores of levels: estimates of how much a student can still learn on a level.

A score needs the fields of a `LevelOutcome` that it reads. They are found by tracing it, when it is
composed with a learner (`require_score`), and what the learner cannot provide is refused there.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.identity import part_name
from purejaxrl.parts.returns import ValueEstimates


class LevelOutcome(NamedTuple):
    """How a student fared on a level. The return of an episode that did not finish is NaN.

    So a score uses `nanmean` and the like. Where a student plays whole episodes, its values and
    advantages at the steps of unfinished ones are NaN too. A meta-learner's agents end their lives
    with a rollout that is shorter than most episodes, so that all of its steps count. A field is
    None where the learner does not provide it.
    """

    returns: jax.Array  # float32 [...], of the student's episodes
    best_return: jax.Array  # float32 [], the highest return that any student had on the level
    advantage: jax.Array | None = None  # float32 [T, ...], of the student's last steps on it
    value: jax.Array | None = None  # float32 [T, ...], the student's estimates at those steps
    antagonist_returns: jax.Array | None = None  # float32 [...], of the antagonist's episodes
    optimal_return: jax.Array | None = None  # float32 [], the highest that is possible on the level


Score = Callable[[jax.Array, LevelOutcome], jax.Array]
"""`(key, outcome) -> float32 []`; the higher, the more there is to learn. A score that is not
finite is ignored."""
OptimalReturn = Callable[[Any], jax.Array]
"""`(level) -> float32 []`: the highest return that an episode on a level can have."""

NUM_TRIALS = 16
"""Random outcomes on which a score is tried when it is composed."""


def score_each(score: Score, key: jax.Array, outcomes: LevelOutcome) -> jax.Array:
    """Score levels, float32 `[n]`.

    Args:
        score: scores one level.
        key: typed key.
        outcomes: fields with one number for each level are `[n]`, the others `[T, n]`.
    """
    num_levels = outcomes.best_return.shape[0]
    each = jax.vmap(score, in_axes=(0, LevelOutcome(1, 0, 1, 1, 1, 0)))
    return each(jax.random.split(key, num_levels), outcomes)


def algorithmic_regret(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Subtract the student's mean return from the antagonist's (GROOVE eq. 4)."""
    return jnp.nanmean(outcome.antagonist_returns) - jnp.nanmean(outcome.returns)


def true_regret(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Subtract the student's mean return from the optimal one: 0 on a level without a solution.

    The optimum knows the whole level. A student that sees a part of it may not reach the optimum.
    """
    return outcome.optimal_return - jnp.nanmean(outcome.returns)


def positive_value_loss(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the positive part of the advantage (robust PLR, arXiv 2110.02439, eq. 5)."""
    return jnp.nanmean(jnp.maximum(outcome.advantage, 0.0))


def l1_value_loss(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the magnitude of the advantage (PLR, arXiv 2010.03934, section 3.1)."""
    return jnp.nanmean(jnp.abs(outcome.advantage))


def max_monte_carlo(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the gap between the highest known return and the value (robust PLR, section 4).

    As in published code, the return is not discounted, and the value is. So on levels with many
    rewards the score grows with their length and with what they pay.
    """
    return jnp.nanmean(outcome.best_return - outcome.value)


def learnability(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Compute p(1 - p); p is the fraction of episodes with a positive return (SFL, 2408.15099)."""
    rate = _share_solved(outcome.returns)
    return jnp.where(jnp.isnan(rate), 0.0, rate * (1 - rate))


def solve_rate(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Compute the fraction of episodes with a positive return; NaN where none can have one."""
    return jnp.where(outcome.optimal_return > 0, _share_solved(outcome.returns), jnp.nan)


def _share_solved(returns: jax.Array) -> jax.Array:
    """Compute the fraction of finished episodes with a positive return; NaN: none finished."""
    return jnp.nanmean(jnp.where(jnp.isnan(returns), jnp.nan, returns > 0))


def random(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Draw a number in [0, 1): the baseline that other scores must beat."""
    return jax.random.uniform(key)


def of_finished_episodes(estimates: ValueEstimates, done: jax.Array) -> ValueEstimates:
    """Replace values and advantages by NaN at the steps of episodes that did not finish.

    Args:
        estimates: those of a rollout, `[T, ...]`.
        done: bool `[T, ...]`, terminated or truncated.
    """
    finished = jax.lax.cummax(done.astype(jnp.int8), axis=0, reverse=True) == 1
    return jax.tree.map(lambda x: jnp.where(finished, x, jnp.nan), estimates)


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


def fields_read(score: Score) -> frozenset[str]:
    """Name the fields of a `LevelOutcome` without which a score cannot be computed."""
    outcome = jax.eval_shape(_random_outcome, jax.random.key(0))

    def is_read(field: str) -> bool:
        try:
            jax.eval_shape(score, jax.random.key(0), outcome._replace(**{field: None}))
        except Exception:  # whatever the score does with None
            return True
        return False

    return frozenset(filter(is_read, LevelOutcome._fields))


def require_score(score: Score, learner: str, provided: Collection[str]) -> None:
    """Raise a ValueError unless a learner can compute a score, when the two are composed.

    Args:
        score: the score.
        learner: what scores levels, such as "evolution".
        provided: the fields of `LevelOutcome` that it provides.
    """
    name = f"score: {part_name(score)} is not valid"
    key = jax.random.key(0)
    try:
        found = jax.eval_shape(lambda key: score(key, _random_outcome(key)), key)
    except Exception as error:
        raise ValueError(
            f"{name}; it must return a float for a key and a LevelOutcome: {error}"
        ) from error
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"{name}; it must return one float, not {found}")
    missing = sorted(fields_read(score) - set(provided))
    if missing:
        raise ValueError(f"{name}; it reads {', '.join(missing)}, which {learner} does not provide")
    tried = jax.jit(jax.vmap(lambda key: score(key, _random_outcome(key))))
    if not jnp.isfinite(tried(jax.random.split(key, NUM_TRIALS))).any():
        raise ValueError(
            f"{name}; it must be finite, and is not on any of {NUM_TRIALS} random outcomes; what "
            "belongs to no finished episode is NaN"
        )


def _random_outcome(key: jax.Array) -> LevelOutcome:
    """Draw an outcome of any scale, in half of the cases without a negative return."""
    scale_key, sign_key, *keys = jax.random.split(key, 6)
    scale = 10 ** jax.random.uniform(scale_key, minval=-1, maxval=2)
    numbers = [scale * jax.random.normal(key, (8,)) for key in keys]
    positive = jax.random.bernoulli(sign_key)
    returns, antagonist_returns = (
        jnp.where(positive, jnp.abs(x), x).at[::3].set(jnp.nan) for x in numbers[:2]
    )
    advantage, value = (x.at[-2:].set(jnp.nan) for x in numbers[2:])
    best_return = jnp.fmax(jnp.nanmax(returns), jnp.nanmax(antagonist_returns))
    optimal_return = best_return + scale
    return LevelOutcome(returns, best_return, advantage, value, antagonist_returns, optimal_return)


SCORES = {
    "regret": algorithmic_regret,
    "true_regret": true_regret,
    "pvl": positive_value_loss,
    "l1": l1_value_loss,
    "maxmc": max_monte_carlo,
    "learnability": learnability,
    "random": random,
}
"""The scores by their names on command lines."""
