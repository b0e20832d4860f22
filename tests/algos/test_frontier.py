"""Frontier replay: which levels it keeps, how it estimates them, and that it costs no steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import frontier, ppo
from envs.maze_domain import mazes
from purejaxrl.algorithm import Task, check_hypers, update
from purejaxrl.ued import student as students
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.scores import LevelOutcome, solve_rate

NUM_LEVELS, KEPT = 4, 8
HYPERS = frontier.Frontier()


def sample_rate(key):
    """A level is how often it is solved; most are nearly always."""
    return {"x": jax.random.uniform(key) ** 0.1}


CURRICULUM = frontier.curriculum(sample_rate, num_kept=KEPT)
DRAW = jax.jit(lambda key, state: CURRICULUM.sample(key, state, HYPERS, WANTED, None))
REPORT = jax.jit(lambda state, visits: CURRICULUM.report(state, HYPERS, visits))
WANTED = jnp.ones(NUM_LEVELS, bool)


def start():
    return CURRICULUM.init(jax.random.key(0), HYPERS, NUM_LEVELS)


def visits(slot, x, score, finished=True):
    arrays = (np.asarray(a) for a in (slot, x, score))
    slot, x, score = (jnp.asarray(a) for a in arrays)
    nothing, done = jnp.zeros(score.shape), jnp.full(score.shape, finished)
    return Visits(slot, {"x": x}, score.astype(jnp.float32), nothing, done)


def test_it_replays_what_is_solved_sometimes():
    state, rng, replayed, new = start(), np.random.default_rng(0), [], []
    for i in range(500):
        state, draw = DRAW(jax.random.key(i), state)
        x, slot = np.asarray(draw.chosen.level["x"]), np.asarray(draw.chosen.slot)
        state = REPORT(state, visits(slot, x, rng.random(x.size) < x))
        replayed.append(x[slot != NOT_KEPT])
        new.append(x[slot == NOT_KEPT])
    replayed, new = (np.concatenate(x) for x in (replayed[50:], new))
    assert 0.4 < replayed.size / (replayed.size + new.size) < 0.55
    assert frontier.learnability(replayed).mean() > 1.4 * frontier.learnability(new).mean()
    described, rate = frontier.metrics(state), np.asarray(state.rate)
    np.testing.assert_allclose(described["rate_kept"], rate.mean(), rtol=1e-6)
    np.testing.assert_allclose(described["score_kept"], (rate * (1 - rate)).mean(), rtol=1e-6)


def test_a_visit_moves_the_estimate_and_a_new_level_replaces_the_one_worth_least():
    state = start()._replace(rate=jnp.array([0.5, 0.9, 1.0, 0.0, 0.3, 0.6, 0.2, 0.8]))
    before = np.asarray(state.levels["x"])
    slots, scores = [1, 4, NOT_KEPT, NOT_KEPT], [0.0, 1.0, 0.0, np.nan]
    after = REPORT(state, visits(slots, [before[1], before[4], 7.0, 8.0], scores))
    found = np.sort(after.rate), np.sort(after.levels["x"])
    replaced = 2 if after.levels["x"][2] == 7 else 3  # 1.0 and 0.0 are worth as little
    expected = np.delete(np.array([0.5, 0.45, 1.0, 0.0, 0.65, 0.6, 0.2, 0.8]), replaced)
    np.testing.assert_allclose(found[0], np.sort(np.append(expected, 0.45)), atol=1e-6)  # 0.9 / 2
    np.testing.assert_array_equal(found[1], np.sort(np.append(np.delete(before, replaced), 7)))


def test_a_level_without_a_score_or_worth_less_than_all_is_not_kept():
    state = start()._replace(rate=jnp.full(KEPT, 0.5))
    after = REPORT(state, visits([NOT_KEPT] * 3, [7.0, 8.0, 9.0], [1.0, np.nan, 0.0]))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_level_in_use_is_neither_drawn_nor_replaced():
    state = start()._replace(rate=jnp.full(KEPT, 0.5).at[0].set(1.0))
    everything = HYPERS.replace(share=1.0)
    state, first = CURRICULUM.sample(jax.random.key(1), state, everything, WANTED, None)
    state, second = CURRICULUM.sample(jax.random.key(2), state, everything, WANTED, None)
    slots = np.concatenate([first.chosen.slot, second.chosen.slot])
    assert sorted(slots) == list(range(KEPT)) and state.in_use.all()
    none_left, third = CURRICULUM.sample(jax.random.key(3), state, everything, WANTED, None)
    assert (third.chosen.slot == NOT_KEPT).all()  # new ones instead
    after = REPORT(none_left, visits([NOT_KEPT], [7.0], [0.0]))
    assert 7 not in after.levels["x"]
    unfinished = visits(first.chosen.slot, first.chosen.level["x"], np.ones(4), finished=False)
    assert REPORT(none_left, unfinished).in_use.all()
    assert not REPORT(none_left, visits(slots, np.zeros(KEPT), np.ones(KEPT))).in_use.any()


def test_unwanted_levels_are_not_taken_from_those_that_are_kept():
    wanted = jnp.array([True, False, True, False])
    state, draw = CURRICULUM.sample(
        jax.random.key(0), start(), HYPERS.replace(share=1.0), wanted, None
    )
    assert (np.asarray(draw.chosen.slot) != NOT_KEPT).tolist() == wanted.tolist()
    assert state.in_use.sum() == 2


@pytest.mark.parametrize(
    ("returns", "optimum", "expected"),
    [([0.5, np.nan, 0.0, 0.9], 1.0, 2 / 3), ([0.0, 0.0], 1.0, 0.0), ([0.0, np.nan], 0.0, np.nan)],
)
def test_the_rate_of_a_visit_is_that_of_its_finished_episodes(returns, optimum, expected):
    outcome = LevelOutcome(jnp.array(returns), jnp.float32(0), optimal_return=jnp.float32(optimum))
    np.testing.assert_allclose(solve_rate(jax.random.key(0), outcome), expected)


def test_a_student_learns_on_all_levels_and_no_step_is_spent_besides():
    levels = mazes(max_walls=8, size=5, max_steps=6, num_edits=4)
    config = ppo.Config(num_envs=4, num_steps=12, num_epochs=1, num_minibatches=1, hidden=(4,))
    agent = ppo.make(config, levels.env)
    curriculum, hypers = frontier.curriculum(levels.sample), frontier.hypers(ppo.Hypers())
    with pytest.raises(ValueError, match="solve_rate .* reads optimal_return, which a student"):
        students.make(agent, levels.env, curriculum)
    student = students.make(agent, levels.env, curriculum, levels.optimal_return)
    assert student.steps_per_update == 48
    state = jax.jit(lambda: student.init(jax.random.key(0), hypers, Task((), jnp.int32(99))))()
    step = jax.jit(lambda state: update(student, state, hypers))
    for _ in range(12):
        before = state.agent.params
        state, metrics = step(state)
        assert metrics["env_steps"] == 48 and "learned" not in metrics
        changed = [(a != b).any() for a, b in zip(
            jax.tree.leaves(before), jax.tree.leaves(state.agent.params), strict=True
        )]  # fmt: skip
        assert any(changed)
    assert metrics["score_kept"] > 0 and not state.curriculum.in_use.any()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="num_kept: 0 is not valid"):
        frontier.curriculum(sample_rate, num_kept=0)
    with pytest.raises(ValueError, match=r"Frontier.prior: 2.0 is not valid"):
        check_hypers(frontier.hypers(ppo.Hypers()).replace(curriculum=HYPERS.replace(prior=2.0)))
