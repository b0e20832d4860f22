"""Students on the curricula of robust PLR, ACCEL and domain randomisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import accel, lpg, plr, ppo, ppo_rnn
from envs import maze, maze_levels
from envs.maze_solution import optimal_return
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.population import populate, seeds
from purejaxrl.ued import student as students
from purejaxrl.ued.curriculum import Replay, uniform
from purejaxrl.ued.scores import SCORES
from purejaxrl.ued.student import OwnLevel
from tests.helpers import assert_equal

NUM_ENVS = 4
ENV = OwnLevel(FlattenObservation(maze.Maze()))
CONFIG = ppo.Config(num_envs=NUM_ENVS, num_steps=12, num_epochs=2, num_minibatches=2, hidden=(8,))
AGENT = ppo.make(CONFIG, ENV)
SAMPLE = maze_levels.uniform(30, size=7, max_steps=10)
EMPTY = maze_levels.uniform(0, size=7, max_steps=10)
HYPERS = ppo.Hypers(learning_rate=1e-3)
TASK = Task((), jnp.int32(100))


def mutate(key, level):
    return maze_levels.mutate(key, level, 3)


def make_plr(agent=AGENT, capacity=16, **options):
    curriculum = plr.curriculum(SAMPLE, capacity=capacity, **options)
    return students.make(agent, ENV, curriculum, optimal_return)


def make_accel():
    return students.make(AGENT, ENV, accel.curriculum(EMPTY, mutate, capacity=16))


def make_random():
    return students.make(AGENT, ENV, uniform(SAMPLE))


def life(algorithm, hypers, num_updates=60):
    """States, metrics and draws of consecutive updates."""

    @jax.jit
    def step(state):
        state, experience = algorithm.collect(state, hypers)
        return algorithm.learn(state, hypers, experience), experience.extras.draw

    state = jax.jit(lambda key: algorithm.init(key, hypers, TASK))(jax.random.key(0))
    states, found, draws = [state], [], []
    for _ in range(num_updates):
        (state, metrics), draw = step(state)
        states.append(state)
        found.append(jax.device_get(metrics))
        draws.append(draw)
    return states, found, draws


def differs(a, b):
    return any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.fixture(scope="module")
def replayed():
    return life(make_plr(), plr.hypers(HYPERS))


def test_nothing_is_learned_on_new_levels(replayed):
    states, found, _ = replayed
    for before, after, metrics in zip(states, states[1:], found, strict=False):
        learned = bool(metrics["learned"])
        assert differs(before.params, after.params) == learned
        assert learned == np.isfinite(metrics["policy_loss"])
        assert metrics["env_steps"] == CONFIG.batch_size
        assert metrics["episodes"] >= NUM_ENVS  # limits of 10 within 12 steps
        assert np.isfinite(metrics["return"])


def test_replayed_levels_come_from_the_buffer_and_new_ones_enter_it(replayed):
    (states, found, draws), learned = replayed, 0
    for before, after, metrics, draw in zip(states, states[1:], found, draws, strict=False):
        slots, levels = draw.chosen.slot, draw.chosen.level
        assert not after.curriculum.in_use.any()
        assert_equal(after.agent.interaction.env_state.level, levels)
        if metrics["learned"]:
            learned += 1
            assert len(set(slots.tolist())) == NUM_ENVS and (slots >= 0).all()
            assert_equal(levels, jax.tree.map(lambda x: x[slots], before.curriculum.levels))  # noqa: B023
        else:
            assert (slots == -1).all()
            kept = before.curriculum.filled.sum()
            assert after.curriculum.filled.sum() == min(16, kept + NUM_ENVS)
    assert 10 < learned < 50


def test_nothing_is_replayed_before_the_buffer_holds_enough_draws():
    hypers = students.Hypers(HYPERS, Replay(replay_prob=1.0, min_draws=2.0))
    _, found, _ = life(make_plr(), hypers, 6)
    assert [bool(m["learned"]) for m in found] == [False, False, True, True, True, True]


def test_levels_are_scored_before_the_student_learns():
    """The scores equal the formula on the student's experience."""
    algorithm, hypers = make_plr(), plr.hypers(HYPERS)

    @jax.jit
    def estimate_and_learn(key):
        state, experience = algorithm.collect(algorithm.init(key, hypers, TASK), hypers)
        seen = experience._replace(extras=experience.extras.agent)
        found = AGENT.estimate(state.agent, HYPERS, seen)
        done = seen.transitions.terminated | seen.transitions.truncated
        return found.advantage, done, algorithm.learn(state, hypers, experience)[0]

    advantage, done, after = estimate_and_learn(jax.random.key(3))
    ends = [int(np.flatnonzero(x)[-1]) + 1 for x in done.T]
    assert min(ends) < len(done)  # the rollout ends amid an episode, which does not count
    expected = [np.clip(x[:end], 0, None).mean() for x, end in zip(advantage.T, ends, strict=True)]
    np.testing.assert_allclose(after.curriculum.score[:NUM_ENVS], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("score", sorted(SCORES.keys() - {"regret"}))
def test_any_score_fills_the_buffer_with_numbers(score):
    states, _, _ = life(make_plr(score=SCORES[score]), plr.hypers(HYPERS), 8)
    buffer = states[-1].curriculum
    assert buffer.filled.any() and np.isfinite(buffer.score).all()


def test_accel_edits_the_levels_that_were_just_replayed_and_does_not_learn_from_them():
    states, found, draws = life(make_accel(), accel.hypers(HYPERS))
    edited = 0
    for last, draw, metrics in zip(draws, draws[1:], found[1:], strict=False):
        if last.learns:
            edited += 1
            assert not metrics["learned"]
            parents, children = last.chosen.level, draw.chosen.level
            changed = (parents.walls != children.walls).sum((1, 2))
            assert (changed <= 6).all()  # three edits, each of at most two cells
            assert differs(parents, children)
        elif not metrics["learned"]:
            assert not draw.chosen.level.walls[:, :7, :7].any()  # an empty maze
    assert edited > 10
    assert states[-1].curriculum.buffer.levels.walls.any()


@pytest.mark.slow
def test_domain_randomisation_always_learns_on_new_levels():
    states, found, draws = life(make_random(), students.Hypers(HYPERS), 6)
    assert len({np.asarray(draw.chosen.level.walls).tobytes() for draw in draws}) == 6
    assert all(np.isfinite(metrics["policy_loss"]) for metrics in found)
    assert states[-1].agent.step == 6


@pytest.mark.slow
def test_a_student_forgets_on_a_new_level():
    config = ppo_rnn.Config(num_envs=4, num_steps=8, num_minibatches=2, hidden=(8,), memory_size=4)
    student, hypers = make_plr(agent=ppo_rnn.make(config, ENV)), plr.hypers(HYPERS)

    @jax.jit
    def update_and_collect(key):
        state, _ = update(student, student.init(key, hypers, TASK), hypers)
        other = state.agent.interaction._replace(memory=-3 * state.agent.interaction.memory)
        other = state._replace(agent=state.agent._replace(interaction=other))
        collected = [student.collect(one, hypers)[1].transitions for one in (state, other)]
        return state, *collected

    state, seen, also_seen = update_and_collect(jax.random.key(0))
    assert (state.agent.interaction.memory != 0).any()
    assert seen.first[0].all()
    assert_equal(seen, also_seen)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"capacity: 3 is not valid; .* >= 4"):
        make_plr(capacity=3)
    with pytest.raises(ValueError, match=r"capacity: 0 is not valid"):
        make_plr(capacity=0)
    with pytest.raises(ValueError, match=r"Replay\.temperature: 0\.0 is not valid"):
        hypers = students.Hypers(HYPERS, Replay(temperature=0.0))
        populate(seeds(1), hypers, ())
    with pytest.raises(ValueError, match="agent: algos.lpg .* needs its `estimate`"):
        make_plr(agent=lpg.make(lpg.Config(num_envs=4), ENV))
