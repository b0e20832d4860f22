"""Scores against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.ued.scores import SCORES, LevelOutcome, episode_returns

RNG = np.random.default_rng(0)
OUTCOME = LevelOutcome(
    advantage=RNG.normal(size=(7, 3)).astype(np.float32),
    value=RNG.normal(size=(7, 3)).astype(np.float32),
    returns=np.array([0.5, np.nan, 0.0, 0.25, -1.0, np.nan, 0.1], np.float32),
    best_return=np.float32(0.75),
    antagonist_returns=np.array([0.5, 1.0, np.nan], np.float32),
)
EXPECTED = {
    "regret": 0.75 - (0.5 + 0.25 - 1.0 + 0.1) / 5,
    "pvl": np.clip(OUTCOME.advantage, 0, None).mean(),
    "l1": abs(OUTCOME.advantage).mean(),
    "maxmc": (0.75 - OUTCOME.value).mean(),
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


def test_a_level_that_is_always_or_never_solved_has_no_learnability():
    for rate in (0.0, 1.0):
        outcome = OUTCOME._replace(returns=jnp.full(5, rate))
        assert SCORES["learnability"](jax.random.key(0), outcome) == 0


def test_without_a_finished_episode_there_is_no_learnability_and_no_regret():
    outcome = OUTCOME._replace(returns=jnp.full(5, jnp.nan))
    assert SCORES["learnability"](jax.random.key(0), outcome) == 0
    assert jnp.isnan(SCORES["regret"](jax.random.key(0), outcome))  # the buffer ignores it


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
