"""Scores against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.ued.scores import (
    SCORES,
    LevelOutcome,
    algorithmic_regret,
    episode_returns,
    fields_read,
    of_finished_episodes,
    require_score,
)

RNG = np.random.default_rng(0)
UNFINISHED = np.arange(7)[:, None] > np.array([3, 6, -1])  # in the last place, no episode finished
OUTCOME = LevelOutcome(
    advantage=np.where(UNFINISHED, np.nan, RNG.normal(size=(7, 3))).astype(np.float32),
    value=np.where(UNFINISHED, np.nan, RNG.normal(size=(7, 3))).astype(np.float32),
    returns=np.array([0.5, np.nan, 0.0, 0.25, -1.0, np.nan, 0.1], np.float32),
    best_return=np.float32(0.75),
    antagonist_returns=np.array([0.5, 1.0, np.nan], np.float32),
    optimal_return=np.float32(0.9),
)
EXPECTED = {
    "regret": 0.75 - (0.5 + 0.25 - 1.0 + 0.1) / 5,
    "true_regret": 0.9 - (0.5 + 0.25 - 1.0 + 0.1) / 5,
    "pvl": np.nansum(np.clip(OUTCOME.advantage, 0, None)) / 11,
    "l1": np.nansum(abs(OUTCOME.advantage)) / 11,
    "maxmc": 0.75 - np.nansum(OUTCOME.value) / 11,
    "learnability": 3 / 5 * 2 / 5,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_score_is_its_formula(name):
    found = jax.jit(SCORES[name])(jax.random.key(0), OUTCOME)
    assert found.shape == () and found.dtype == jnp.float32
    np.testing.assert_allclose(found, EXPECTED[name], rtol=1e-5)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_score_does_not_depend_on_the_key(name):
    scores = [SCORES[name](jax.random.key(seed), OUTCOME) for seed in range(2)]
    assert scores[0] == scores[1]


def test_the_random_score_depends_only_on_the_key():
    scores = jnp.stack([SCORES["random"](jax.random.key(i), OUTCOME) for i in range(100)])
    assert len(np.unique(scores)) == 100 and 0.4 < scores.mean() < 0.6


READS = {
    "regret": {"returns", "antagonist_returns"},
    "true_regret": {"returns", "optimal_return"},
    "pvl": {"advantage"},
    "l1": {"advantage"},
    "maxmc": {"best_return", "value"},
    "learnability": {"returns"},
    "random": set(),
}


@pytest.mark.parametrize("name", SCORES)
def test_what_a_score_reads_is_found_by_tracing_it(name):
    assert fields_read(SCORES[name]) == READS[name]
    squared = jax.jit(lambda key, outcome: SCORES[name](key, outcome) ** 2)
    assert fields_read(squared) == READS[name]


def sometimes(key, outcome):
    """Finite only where all returns are positive."""
    return jnp.log(jnp.nanmin(outcome.returns))


BAD = {
    "reads what is not there": (
        algorithmic_regret,
        r"score: purejaxrl.ued.scores.algorithmic_regret is not valid; it reads "
        "antagonist_returns, which a student does not provide",
    ),
    "never finite": (lambda key, outcome: jnp.log(-1 - outcome.returns.std()), "must be finite"),
    "mean of returns with NaN": (lambda key, outcome: outcome.returns.mean(), "must be finite"),
    "mean of advantages with NaN": (
        lambda key, outcome: outcome.advantage.mean(),
        "what belongs to no finished episode is NaN",
    ),
    "not one number": (lambda key, outcome: outcome.returns, "must return one float"),
    "two numbers": (lambda key, outcome: (outcome.best_return,) * 2, "must return one float"),
    "not a float": (lambda key, outcome: jnp.int32(1), "must return one float"),
    "fails": (lambda key, outcome: outcome.regret, "must return a float .* no attribute 'regret'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_score_that_cannot_be_used_is_named(case):
    score, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        require_score(score, "a student", {*LevelOutcome._fields} - {"antagonist_returns"})


@pytest.mark.parametrize("score", [sometimes, *SCORES.values()])
def test_a_score_that_can_be_computed_is_accepted(score):
    require_score(score, "a meta-gradient", LevelOutcome._fields)


def test_a_level_that_is_always_or_never_solved_has_no_learnability():
    for rate in (0.0, 1.0):
        outcome = OUTCOME._replace(returns=jnp.full(5, rate))
        assert SCORES["learnability"](jax.random.key(0), outcome) == 0


def test_without_a_finished_episode_there_is_no_learnability_and_no_regret():
    outcome = OUTCOME._replace(returns=jnp.full(5, jnp.nan))
    assert SCORES["learnability"](jax.random.key(0), outcome) == 0
    assert jnp.isnan(SCORES["regret"](jax.random.key(0), outcome))  # the buffer ignores it


@pytest.mark.parametrize("name", ["pvl", "l1", "maxmc"])
def test_a_level_without_a_finished_episode_has_no_score(name):
    nothing = np.full((7, 3), np.nan, np.float32)
    outcome = OUTCOME._replace(advantage=nothing, value=nothing)
    assert jnp.isnan(SCORES[name](jax.random.key(0), outcome))  # the buffer ignores it


def test_steps_of_an_episode_that_did_not_finish_have_no_estimates():
    done = np.zeros((7, 3), bool)
    done[[1, 3], 0] = done[6, 1] = True
    one = np.ones((7, 3), np.float32)
    found = of_finished_episodes(ValueEstimates(one, 2 * one), done)
    np.testing.assert_array_equal(found.value, np.where(UNFINISHED, np.nan, 1))
    np.testing.assert_array_equal(found.advantage, np.where(UNFINISHED, np.nan, 2))


def test_returns_of_episodes_are_those_of_a_loop():
    reward = RNG.normal(size=(30, 4)).astype(np.float32)
    done = RNG.random((30, 4)) < 0.2
    expected = np.full((30, 4), np.nan)
    for env in range(4):
        begin = 0
        for t in np.flatnonzero(done[:, env]):
            expected[t, env] = reward[begin : t + 1, env].sum()
            begin = t + 1
    np.testing.assert_allclose(jax.jit(episode_returns)(reward, done), expected, rtol=1e-5)
