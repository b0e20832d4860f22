"""Robust PLR, ACCEL and domain randomisation: when they learn, and on which levels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import accel, domain_randomization, lpg, plr, ppo, ppo_rnn
from envs import maze, maze_levels
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.ued.curriculum import Replay
from purejaxrl.ued.scores import SCORES, positive_value_loss
from purejaxrl.ued.student import OwnLevel
from tests.helpers import assert_equal

NUM_ENVS = 4
ENV = OwnLevel(FlattenObservation(maze.Maze()))
CONFIG = ppo.Config(num_envs=NUM_ENVS, num_steps=12, num_epochs=2, num_minibatches=2, hidden=(8,))
STUDENT = ppo.make(CONFIG, ENV)
SAMPLE = maze_levels.uniform(30, size=7, max_steps=10)
EMPTY = maze_levels.uniform(0, size=7, max_steps=10)
HYPERS = ppo.Hypers(learning_rate=1e-3)
TASK = Task((), jnp.int32(100))


def mutate(key, level):
    return maze_levels.mutate(key, level, 3)


def make_plr(score=positive_value_loss, student=STUDENT, capacity=16):
    return plr.make(plr.Config(capacity), student, ENV, SAMPLE, score)


def make_accel():
    return accel.make(accel.Config(16), STUDENT, ENV, EMPTY, mutate)


def life(algorithm, hypers, num_updates=60):
    """States and metrics, one after the other."""
    step = jax.jit(functools.partial(update, algorithm))
    state = algorithm.init(jax.random.key(0), hypers, TASK)
    states, found = [state], []
    for _ in range(num_updates):
        state, metrics = step(state, hypers)
        states.append(state)
        found.append(jax.device_get(metrics))
    return states, found


@pytest.fixture(scope="module")
def replayed():
    return life(make_plr(), plr.Hypers(HYPERS))


def test_nothing_is_learned_on_new_levels(replayed):
    states, found = replayed
    for before, after, metrics in zip(states, states[1:], found, strict=False):
        learned = bool(metrics["learned"])
        moved = any(
            (a != b).any()
            for a, b in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
        )
        assert moved == learned == np.isfinite(metrics["policy_loss"])
        assert metrics["env_steps"] == CONFIG.batch_size
        assert metrics["episodes"] >= NUM_ENVS  # limits of 10 within 12 steps
        assert np.isfinite(metrics["return"])


def test_replayed_levels_come_from_the_buffer_and_new_ones_enter_it(replayed):
    states, found = replayed
    learned = 0
    for before, after, metrics in zip(states, states[1:], found, strict=False):
        slots, levels = after.last.draw.slot, after.last.draw.levels
        assert not after.buffer.in_use.any()
        assert_equal(after.student.interaction.env_state.level, levels)
        if metrics["learned"]:
            learned += 1
            assert len(set(slots.tolist())) == NUM_ENVS and (slots >= 0).all()
            assert_equal(levels, jax.tree.map(lambda x: x[slots], before.buffer.levels))  # noqa: B023
        else:
            assert (slots == -1).all()
            kept = before.buffer.filled.sum()
            assert after.buffer.filled.sum() == min(16, kept + NUM_ENVS)
    assert 10 < learned < 50


def test_nothing_is_replayed_before_the_buffer_is_filled_to_min_fill():
    hypers = plr.Hypers(HYPERS, Replay(replay_prob=1.0, min_fill=0.5))
    _, found = life(make_plr(), hypers, 6)
    assert [bool(m["learned"]) for m in found] == [False, False, True, True, True, True]


def test_levels_are_scored_before_the_student_learns():
    """The scores equal the formula on the student's trajectory."""
    algorithm = make_plr()
    hypers = plr.Hypers(HYPERS)
    state = algorithm.init(jax.random.key(3), hypers, TASK)
    state, seen = algorithm.collect(state, hypers)
    found = STUDENT.estimate(state.student, HYPERS, seen.student)
    after, _ = algorithm.learn(state, hypers, seen)
    expected = np.clip(found.advantage, 0, None).mean(0)
    np.testing.assert_allclose(after.buffer.score[:NUM_ENVS], expected, rtol=1e-5)


def test_an_update_on_replayed_levels_is_the_students_own():
    algorithm, hypers = make_plr(), plr.Hypers(HYPERS, Replay(replay_prob=1.0, min_fill=0.2))
    state = algorithm.init(jax.random.key(0), hypers, TASK)
    state, _ = update(algorithm, state, hypers)
    state, seen = algorithm.collect(state, hypers)
    assert seen.choice.learns
    after, metrics = algorithm.learn(state, hypers, seen)
    alone, expected = STUDENT.learn(state.student, HYPERS, seen.student)
    assert_equal(after.params, alone.params)
    assert metrics["policy_loss"] == expected["policy_loss"]


@pytest.mark.parametrize("score", sorted(SCORES.keys() - {"regret"}))
def test_any_score_fills_the_buffer_with_numbers(score):
    states, _ = life(make_plr(SCORES[score]), plr.Hypers(HYPERS), 8)
    buffer = states[-1].buffer
    assert buffer.filled.any() and np.isfinite(buffer.score).all()


def test_accel_edits_the_levels_that_were_just_replayed_and_does_not_learn_from_them():
    states, found = life(make_accel(), accel.hypers(HYPERS))
    edited = 0
    for before, after, metrics in zip(states, states[1:], found, strict=False):
        if before.last.learns:
            edited += 1
            assert not metrics["learned"]
            parents, children = before.last.draw.levels, after.last.draw.levels
            changed = (parents.walls != children.walls).sum((1, 2))
            assert (changed <= 6).all()  # three edits, each of at most two cells
            assert any(
                (a != b).any()
                for a, b in zip(*map(jax.tree.leaves, (parents, children)), strict=True)
            )
        elif not metrics["learned"]:
            assert not after.last.draw.levels.walls[:, :7, :7].any()  # an empty maze
    assert edited > 10
    assert states[-1].buffer.levels.walls.any()


def test_domain_randomisation_always_learns_on_new_levels():
    algorithm = domain_randomization.make(STUDENT, ENV, SAMPLE)
    states, found = life(algorithm, HYPERS, 6)
    levels = [state.student.interaction.env_state.level for state in states[1:]]
    seen = [np.asarray(level.walls).tobytes() for level in levels]
    assert len(set(seen)) == 6
    assert all(np.isfinite(metrics["policy_loss"]) for metrics in found)
    assert states[-1].student.step == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plr", "accel", "domain_randomization"])
def test_resumed_equals_uninterrupted_and_members_are_as_alone(kind, tmp_path):
    algorithm, hypers = {
        "plr": lambda: (make_plr(), plr.Hypers(HYPERS)),
        "accel": lambda: (make_accel(), accel.hypers(HYPERS)),
        "domain_randomization": lambda: (
            domain_randomization.make(STUDENT, ENV, SAMPLE),
            HYPERS,
        ),
    }[kind]()
    who = populate(seeds(2), hypers, ())
    settings = dict(chunk=4, checkpoint_every=1, progress=False, group=1)
    whole = run(algorithm, who, 16, RunOptions(str(tmp_path / "whole"), **settings), horizon=16)
    parts = RunOptions(str(tmp_path / "parts"), **settings)
    run(algorithm, who, 8, parts, horizon=16)
    resumed = RunOptions(str(tmp_path / "parts"), resume=True, **settings)
    assert_equal(run(algorithm, who, 16, resumed, horizon=16).state, whole.state)
    one = RunOptions(str(tmp_path / "one"), **settings)
    alone = run(algorithm, who.select("seed=1"), 16, one, horizon=16)
    assert_equal(alone.member(0), whole.member(1))


def test_the_memory_of_a_student_is_cleared_on_a_new_level():
    config = ppo_rnn.Config(num_envs=4, num_steps=8, num_minibatches=2, hidden=(8,), memory_size=4)
    student = ppo_rnn.make(config, ENV)
    states, _ = life(make_plr(student=student), plr.Hypers(HYPERS), 4)
    assert (states[-1].student.interaction.memory != 0).any()
    _, seen = make_plr(student=student).collect(states[-1], plr.Hypers(HYPERS))
    assert seen.student.transitions.first[0].all()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"Config\.capacity: 3 is not valid; .* num_envs = 4"):
        make_plr(capacity=3)
    with pytest.raises(ValueError, match=r"Replay\.temperature: 0\.0 is not valid"):
        hypers = plr.Hypers(HYPERS, Replay(temperature=0.0))
        populate(seeds(1), hypers, ())
    with pytest.raises(ValueError, match="student: algos.lpg .* needs its `estimate`"):
        make_plr(student=lpg.make(lpg.Config(num_envs=4), ENV))
