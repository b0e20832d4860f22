"""Evolution on levels that a curriculum chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.meta import evolution
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import run
from purejaxrl.ued.curriculum import Replay, replay
from purejaxrl.ued.scores import algorithmic_regret, learnability
from tests.helpers import assert_equal, run_options
from tests.purejaxrl.meta.hand_made import HYPERS, level, make


def mean_return(key, outcome):
    return jnp.nanmean(outcome.returns)


def test_levels_are_replayed_by_the_mean_score_of_a_pair():
    """Every candidate earns its level's length, plus what cancels out within a pair."""

    def worth(theta, task, age):
        return 1.0 * task.env_params.length + theta.sum()

    learner = make(worth, curriculum=replay(level, mean_return, 32))
    hypers = evolution.Hypers(std=0.1, curriculum=Replay(replay_prob=0.5))
    state, step = learner.init(jax.random.key(0), hypers, None), jax.jit(learner.learn)
    for _ in range(8):
        before = state.params
        state, metrics = step(state, hypers, ())
        buffer = state.curricula[0]
        kept = buffer.filled & (buffer.last_visit == buffer.clock)
        lengths = buffer.levels.length + before.sum()  # θ + σε and θ - σε cancel out
        np.testing.assert_allclose(buffer.score[kept], lengths[kept], rtol=1e-4)
        assert not buffer.in_use.any()
    assert metrics["levels_kept"] == buffer.filled.sum() and buffer.filled.sum() > 16
    assert (buffer.last_visit[buffer.filled] < buffer.clock).any()
    np.testing.assert_allclose(metrics["score_kept"], buffer.score[buffer.filled].mean())


def test_a_candidate_that_diverges_has_no_score():
    """Half of the candidates diverge; the score of their level is that of the other one."""

    def worth(theta, task, age):
        return jnp.where(theta[0] > 0, jnp.nan, 2.0)

    score = lambda key, outcome: jnp.nan_to_num(jnp.nanmean(outcome.returns))  # noqa: E731
    learner = make(worth, curriculum=replay(level, score, 32))
    hypers = evolution.Hypers(std=0.1, curriculum=Replay(replay_prob=0.5))
    state = learner.init(jax.random.key(0), hypers, None)
    state, metrics = jax.jit(learner.learn)(state, hypers, ())
    assert metrics["unsound"] == 8
    buffer = state.curricula[0]
    assert (buffer.score[buffer.filled] == 2.0).all() and buffer.filled.any()


def test_a_curriculum_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match="algorithmic_regret .* reads antagonist_returns, which ev"
    ):
        make(curriculum=replay(level, algorithmic_regret))
    with pytest.raises(ValueError, match=r"capacity: 7 is not valid; .* >= 8"):
        make(curriculum=replay(level, learnability, 7))
    learner = make(curriculum=replay(level, learnability))
    with pytest.raises(ValueError, match=r"Hypers\.curriculum: None is not valid; .* a Replay"):
        learner.init(jax.random.key(0), HYPERS, None)


@pytest.mark.slow
def test_resumed_equals_uninterrupted_on_any_number_of_devices(tmp_path):
    learner = make(curriculum=replay(level, mean_return, 32))
    who = populate(seeds(2), evolution.Hypers(std=0.1, curriculum=Replay()), ())
    whole = run(learner, who, 6, run_options(tmp_path / "whole"), devices=jax.devices()[:1])
    run(learner, who, 4, run_options(tmp_path / "parts"), devices=jax.devices()[:4])
    resume = run_options(tmp_path / "parts", resume=True)
    parts = run(learner, who, 6, resume, devices=jax.devices()[:2])
    assert_equal(whole.state.params, parts.state.params)
    one, other = whole.state.curricula[0], parts.state.curricula[0]
    for field in ("levels", "fingerprint", "last_visit", "filled", "in_use", "clock"):
        assert_equal(getattr(one, field), getattr(other, field))
    np.testing.assert_allclose(one.score, other.score, rtol=1e-6)
    assert (whole.state.params[0] != whole.state.params[1]).any()
