"""Sampling for learnability: which levels a search keeps, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo, sfl
from envs import maze, maze_levels
from envs.maze_solution import optimal_return
from purejaxrl.algorithm import Task, check_hypers, update
from purejaxrl.identity import is_named
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued import student as students
from purejaxrl.ued.scores import LevelOutcome, learnability, positive_value_loss, true_regret
from purejaxrl.ued.student import OwnLevel

NUM_ENVS, KEY = 4, jax.random.key(0)
SAMPLE = maze_levels.uniform(4, size=3, max_steps=6)
ENV = OwnLevel(FlattenObservation(maze.Maze()))
AGENT = ppo.make(ppo.Config(num_envs=NUM_ENVS, num_steps=8, num_minibatches=1, hidden=(4,)), ENV)
CONFIG = sfl.Config(every=3, batch_size=8, num_batches=2, num_steps=12, num_kept=6)
HYPERS = sfl.hypers(ppo.Hypers())
COST = 8 * 2 * 12


def play_rates(key, levels, num_steps):
    """A student that solves the level x in 10 x of 10 episodes; above 1, none finishes."""
    wins = jnp.arange(10)[:, None] < jnp.round(10 * levels["x"])
    returns = jnp.where(levels["x"] > 1, jnp.nan, wins.astype(jnp.float32))
    return LevelOutcome(returns, returns.max(0), optimal_return=2 * levels["x"])


def sample_rate(key):
    return {"x": jnp.round(jax.random.uniform(key, maxval=1.3), 1)}


def search(score, config=CONFIG, key=KEY):
    start = {"x": jnp.full(config.num_kept, 9.0)}
    return jax.jit(lambda: sfl.search(key, config, sample_rate, score, play_rates, start))()


def test_a_search_keeps_the_levels_that_are_solved_half_of_the_time():
    config = sfl.Config(batch_size=50, num_batches=4, num_kept=10)
    levels, scores = search(learnability, config)
    assert np.abs(levels["x"] - 0.5).max() <= 0.101  # of 11 rates
    np.testing.assert_allclose(scores, levels["x"] * (1 - levels["x"]), atol=1e-6)
    assert (np.diff(scores) <= 0).all()


def test_a_search_by_true_regret_keeps_the_levels_furthest_below_the_optimum():
    config = sfl.Config(batch_size=50, num_batches=4, num_kept=10)
    levels, scores = search(true_regret, config)
    np.testing.assert_allclose(scores, levels["x"], atol=1e-6)  # 2 x less x
    assert levels["x"].min() >= 0.9 and levels["x"].max() <= 1.0  # without an episode, no score


def test_where_nothing_is_found_the_levels_stay_and_have_no_score():
    levels, scores = search(lambda key, outcome: jnp.nanmean(outcome.returns) / 0 * jnp.nan)
    assert (levels["x"] == 9).all() and (scores == -jnp.inf).all()


def life(hypers, num_updates=5):
    student = students.make(AGENT, ENV, sfl.curriculum(CONFIG, SAMPLE))
    state = jax.jit(lambda: student.init(KEY, hypers, Task((), jnp.int32(9))))()
    step, found = jax.jit(lambda state: update(student, state, hypers)), []
    for _ in range(num_updates):
        state, metrics = step(state)
        found.append((jax.device_get(metrics), state))
    return found


def is_kept(state):
    """Which of the student's levels are among those that are kept."""
    levels, kept = state.agent.interaction.env_state.level, state.curriculum.levels
    same = jax.tree.map(
        lambda x, y: (x[:, None] == y).reshape(NUM_ENVS, CONFIG.num_kept, -1).all(-1), levels, kept
    )
    return np.all(jax.tree.leaves(same), axis=0).any(1)


@pytest.mark.parametrize(
    ("share", "number"),
    [(0.5, 2), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((1.0, 4), (0.0, 0)))],
)
def test_a_share_of_the_levels_is_kept_ones_and_the_steps_of_a_search_count(share, number):
    found = life(HYPERS.replace(curriculum=sfl.Search(share=share)))
    own = NUM_ENVS * 8
    assert [int(m["env_steps"]) for m, _ in found] == [own + COST, own, own, own + COST, own]
    kept = [is_kept(state) for _, state in found]
    assert all(x[:number].all() for x in kept)
    assert np.sum(kept) < number * 5 + 5  # new ones are seldom among the kept
    first, second, _, fourth, _ = (np.asarray(s.curriculum.levels.walls) for _, s in found)
    assert (first == second).all() and (first != fourth).any()
    assert all(np.isfinite(m["score_kept"]) for m, _ in found)


def test_the_mean_cost_is_known_before_a_run():
    curriculum = sfl.curriculum(CONFIG, SAMPLE)
    assert curriculum.extra_steps == COST / 3
    student = students.make(AGENT, ENV, curriculum)
    assert student.steps_per_update is None and all(map(is_named, student.made_of))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="num_kept: 999 is not valid; .* 16 levels of a search"):
        sfl.Config(batch_size=8, num_batches=2, num_kept=999)
    with pytest.raises(ValueError, match=r"Config.every: 0 is not valid"):
        sfl.Config(every=0)
    with pytest.raises(ValueError, match=r"Search.share: 1.5 is not valid"):
        check_hypers(HYPERS.replace(curriculum=sfl.Search(share=1.5)))
    by_regret = sfl.curriculum(CONFIG, SAMPLE, true_regret)
    with pytest.raises(ValueError, match="true_regret .* reads optimal_return, which a search"):
        students.make(AGENT, ENV, by_regret)
    students.make(AGENT, ENV, by_regret, optimal_return)
    by_value = sfl.curriculum(CONFIG, SAMPLE, positive_value_loss)
    with pytest.raises(ValueError, match="reads advantage, which a search by a student does not"):
        students.make(AGENT, ENV, by_value)
