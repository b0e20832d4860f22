"""Environments that each have a level equal separate environments on those levels."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import dqn, frontier, ppo
from envs import maze, maze_levels
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.chunk import Carry, member_update
from purejaxrl.ued import student as students
from purejaxrl.ued.curriculum import Curriculum, Draw, Replay, new_levels, replay, uniform
from purejaxrl.ued.scores import (
    LevelOutcome,
    episode_returns,
    learnability,
    max_monte_carlo,
    true_regret,
)
from purejaxrl.ued.student import OwnLevel, move_to_levels
from tests.helpers import assert_equal, begin

NUM_ENVS = 5
SAMPLE = maze_levels.uniform(20, max_steps=7)
LEVELS = jax.vmap(SAMPLE)(jax.random.split(jax.random.key(0), 5))


def play(step, state, keys, actions):
    seen = []
    for key, action in zip(keys, actions, strict=True):
        obs, state, reward, terminated, truncated, info = step(key, state, action)
        seen.append((obs, reward, terminated, truncated, info["final_observation"]))
    return seen


def test_each_environment_is_on_its_level_through_resets():
    inner = maze.Maze()
    env = OwnLevel(inner)
    keys = jax.random.split(jax.random.key(1), (20, NUM_ENVS))
    actions = jax.random.randint(jax.random.key(2), (20, NUM_ENVS), 0, 3)
    _, state = jax.vmap(env.reset)(keys[0], LEVELS)
    together = play(jax.jit(jax.vmap(env.step)), state, keys, actions)
    step = jax.jit(inner.step)
    for i in range(NUM_ENVS):
        level = jax.tree.map(lambda x: x[i], LEVELS)  # noqa: B023
        _, state = inner.reset(keys[0, i], level)
        alone = play(lambda *args: step(*args, level), state, keys[:, i], actions[:, i])  # noqa: B023
        assert_equal(jax.tree.map(lambda x: x[i], together), alone)  # noqa: B023
        assert any(seen[3] for seen in alone)  # the time limit was reached


def test_environments_with_random_resets_keep_their_level():
    inner, params = envs.make("chain-long")
    env = OwnLevel(inner)
    level = params.replace(min_length=jnp.int32(2), max_length=jnp.int32(2))
    _, state = env.reset(jax.random.key(0), level)
    ends = []
    for i in range(6):
        _, state, _, terminated, _, _ = env.step(jax.random.key(i), state, 0)
        ends.append(bool(terminated))
    assert ends == [False, True] * 3


def test_a_student_is_moved_to_other_levels():
    env = OwnLevel(FlattenObservation(maze.Maze()))
    student = ppo.make(ppo.Config(num_envs=NUM_ENVS, num_steps=4), env)
    task = Task(maze.empty(), jnp.int32(10))
    collect = jax.jit(student.collect)
    state = begin(student, ppo.Hypers(), task)
    state, _ = collect(state, ppo.Hypers())
    moved = jax.jit(lambda *args: move_to_levels(*args, env, LEVELS))(jax.random.key(1), state)
    env_state = moved.interaction.env_state
    assert_equal(env_state.level, LEVELS)
    np.testing.assert_array_equal(env_state.inner.agent_pos, LEVELS.agent_pos)
    assert moved.interaction.first.all() and (moved.interaction.episode.length == 0).all()
    assert_equal(moved.params, state.params)
    after, trajectory = collect(moved, ppo.Hypers())
    assert_equal(after.interaction.env_state.level, LEVELS)
    expected = jax.vmap(maze.Maze().observe)(env_state.inner, LEVELS).reshape(NUM_ENVS, -1)
    np.testing.assert_array_equal(trajectory.transitions.obs[0], expected)


def test_a_student_that_is_moved_begins_its_discounted_returns_anew():
    """Else the deviation of rewards would shrink, where rollouts are shorter than episodes."""
    env = OwnLevel(FlattenObservation(maze.Maze()))
    student = ppo.make(ppo.Config(num_envs=NUM_ENVS, num_steps=4, normalize_reward=True), env)
    state = begin(student, ppo.Hypers(), Task(maze.empty(), jnp.int32(10)))
    scale = state.normalizer.reward
    state = state._replace(
        normalizer=state.normalizer._replace(reward=scale._replace(ret=scale.ret + 7))
    )
    moved = move_to_levels(jax.random.key(1), state, env, LEVELS)
    assert (moved.normalizer.reward.ret == 0).all()
    assert_equal(moved.normalizer.reward.moments, scale.moments)


def search(every, num_candidates, num_steps):
    """At every few updates, play new levels and keep the most learnable one (as SFL does)."""

    def init(key, hypers, num_levels):
        return jnp.int32(0), SAMPLE(key)

    def sample(key, state, hypers, wanted, play):
        age, best = state
        levels_key, play_key = jax.random.split(key)
        levels = jax.vmap(SAMPLE)(jax.random.split(levels_key, num_candidates))

        def find():
            outcomes = play(play_key, levels, num_steps)
            rate = jax.vmap(learnability, (None, LevelOutcome(1, 0)))(key, outcomes)
            return jax.tree.map(lambda x: x[rate.argmax()], levels)

        searches = age % every == 0
        best = jax.lax.cond(searches, find, lambda: best)
        all_best = jax.tree.map(lambda x: jnp.repeat(x[None], wanted.size, 0), best)
        env_steps = jnp.where(searches, num_candidates * num_steps, 0)
        return (age + 1, best), Draw(new_levels(all_best), env_steps=env_steps)

    extra_steps = num_candidates * num_steps / every
    return Curriculum(init, sample, SAMPLE, plays=True, extra_steps=extra_steps)


ENV = OwnLevel(FlattenObservation(maze.Maze()))
AGENT = ppo.make(ppo.Config(num_envs=NUM_ENVS, num_steps=8, num_minibatches=1, hidden=(4,)), ENV)
HYPERS = students.Hypers(ppo.Hypers())
KEY = jax.random.key(0)


def test_a_search_plays_the_student_and_its_steps_are_counted():
    student = students.make(AGENT, ENV, search(every=2, num_candidates=6, num_steps=16))
    assert student.steps_per_update is None
    state = begin(student, HYPERS, Task((), jnp.int32(10)))
    step = jax.jit(lambda state: update(student, state, HYPERS))
    found, levels = [], []
    for _ in range(4):
        before = state.agent
        state, metrics = step(state)
        found.append(int(metrics["env_steps"]))
        levels.append(np.asarray(state.agent.interaction.env_state.level.walls[0]).tobytes())
        assert (
            state.agent.interaction.env_state.level.walls[:1] == state.curriculum[1].walls
        ).all()
        assert state.agent.step == before.step + 1
    assert found == [5 * 8 + 6 * 16, 5 * 8] * 2
    assert levels[0] == levels[1] != levels[2] == levels[3]


def test_playing_a_policy_returns_what_each_episode_earned_on_its_level():
    levels = jax.vmap(maze_levels.uniform(0, size=3, max_steps=9))(jax.random.split(KEY, 4))
    setup = students.Setup(AGENT, ENV, uniform(SAMPLE))
    agent = jax.jit(lambda: AGENT.init(KEY, HYPERS.agent, Task(maze.empty(), jnp.int32(1))))()
    returns = np.array(jax.jit(lambda: students.play(setup, agent, KEY, levels, 60).returns)())
    assert returns.shape == (60, 4)
    lengths = [np.diff([-1, *np.flatnonzero(np.isfinite(x))]) for x in returns.T]
    assert max(x.max() for x in lengths) == 9  # the time limit
    for i, length in enumerate(lengths):  # a goal pays more if it is reached sooner
        paid = returns[np.isfinite(returns[:, i]), i]
        np.testing.assert_allclose(paid[paid > 0], 1 - 0.9 * length[paid > 0] / 9, rtol=1e-5)
    assert np.nanmax(returns) > 0 and np.nanmin(returns) == 0


def exploring(learns):
    """New levels; a student learns on all of them, or on none."""

    def sample(*args):
        state, draw = uniform(SAMPLE).sample(*args)
        return state, draw._replace(learns=jnp.bool_(learns))

    return uniform(SAMPLE)._replace(sample=sample, explores=True)


@pytest.mark.parametrize("learns", [True, False])
def test_an_agent_with_only_the_metrics_of_the_contract_can_be_a_student(learns):
    def learn(state, hypers, experience):
        state, metrics = AGENT.learn(state, hypers, experience)
        return state, {name: metrics[name] for name in ("env_steps", "episodes", "return")}

    curriculum = exploring(learns)
    agent = AGENT._replace(learn=learn, vital=lambda state, metrics: state.params)
    student = students.make(agent, ENV, curriculum)
    state = begin(student, HYPERS, Task((), jnp.int32(10)))
    _, metrics = jax.jit(lambda state: update(student, state, HYPERS))(state)
    assert {"env_steps", "episodes", "return", "learned"} <= metrics.keys()
    assert metrics["learned"] == learns and metrics["env_steps"] == agent.steps_per_update


@pytest.mark.parametrize(("explores", "learns"), [(False, True), (True, True), (True, False)])
def test_an_infinite_loss_freezes_a_student_and_an_update_without_learning_does_not(
    explores, learns
):
    """The losses of an update without learning are NaN."""

    def learn(state, hypers, experience):
        state, metrics = AGENT.learn(state, hypers, experience)
        return state, metrics | {"policy_loss": jnp.float32(jnp.inf)}

    curriculum = exploring(learns)._replace(explores=explores)
    student = students.make(AGENT._replace(learn=learn), ENV, curriculum)
    carry = Carry(begin(student, HYPERS, Task((), jnp.int32(10))), jnp.bool_(True), ())
    carry, _ = jax.jit(lambda carry: member_update(student, carry, HYPERS))(carry)
    assert carry.alive == (not learns) and carry.state.step == (not learns)


def test_what_does_not_fit_a_student_is_refused():
    replaying = AGENT._replace(in_place=("replay",))
    assert students.make(replaying, ENV, uniform(SAMPLE)).in_place == ("agent.replay",)
    exploring = replay(SAMPLE, learnability)._replace(explores=True)
    with pytest.raises(ValueError, match="agent: algos.ppo is not valid; .* roll back replay"):
        students.make(replaying, ENV, exploring)
    with pytest.raises(ValueError, match="env: Maze is not valid; it must be an OwnLevel"):
        students.make(AGENT, maze.Maze(), uniform(SAMPLE))
    with pytest.raises(ValueError, match="agent: algos.ppo .* levels needs its `num_envs`"):
        students.make(AGENT._replace(num_envs=None), ENV, uniform(SAMPLE))
    with pytest.raises(ValueError, match="reads optimal_return, which a student does not"):
        students.make(AGENT, ENV, replay(SAMPLE, true_regret))
    with pytest.raises(ValueError, match="reads antagonist_returns, which a student does not"):
        students.make(AGENT, ENV, replay(SAMPLE, lambda key, x: jnp.nanmean(x.antagonist_returns)))
    filled = AGENT._replace(warmup_steps=64)
    with pytest.raises(ValueError, match="agent: algos.ppo is not valid; a teacher has no level"):
        students.make(filled, ENV, uniform(SAMPLE)._replace(teaches=NUM_ENVS))
    several = dqn.make(dqn.Config(num_returns=3), ENV)
    with pytest.raises(ValueError, match="agent: num_returns=3 is not valid; .* it must be 1"):
        students.make(several, ENV, uniform(SAMPLE))
    scaled = AGENT._replace(config=replace(AGENT.config, normalize_reward=True))
    with pytest.raises(ValueError, match="agent: normalize_reward=True .* compares values with"):
        students.make(scaled, ENV, replay(SAMPLE, max_monte_carlo))
    student = students.make(AGENT, ENV, exploring)
    with pytest.raises(ValueError, match=r"Hypers\.curriculum: None is not valid; .* a Replay"):
        student.init(jax.random.key(0), HYPERS, Task((), jnp.int32(1)))
    with pytest.raises(ValueError, match=r"hypers: algos\.ppo\.Hypers .*student\.Hypers\(agent"):
        student.init(jax.random.key(0), ppo.Hypers(), Task((), jnp.int32(1)))


@pytest.mark.slow
def test_a_score_of_returns_needs_no_estimate():
    agent = AGENT._replace(estimate=None)
    student = students.make(agent, ENV, replay(SAMPLE, learnability, 8))
    hypers = students.Hypers(ppo.Hypers(), Replay())
    state = begin(student, hypers, Task((), jnp.int32(1)))
    state, metrics = jax.jit(lambda state: update(student, state, hypers))(state)
    assert metrics["levels_kept"] == NUM_ENVS and np.isfinite(metrics["score"])


def test_the_mean_score_leaves_out_levels_without_one():
    """Frontier replay scores no level without a solution, here those of an even first position."""
    optimum = lambda level: (level.agent_pos.sum() % 2).astype(jnp.float32)  # noqa: E731
    student = students.make(AGENT, ENV, frontier.curriculum(SAMPLE), optimum)
    hypers = students.Hypers(ppo.Hypers(), frontier.Frontier())
    state = begin(student, hypers, Task((), jnp.int32(1)))
    state, experience = jax.jit(lambda state: student.collect(state, hypers))(state)
    levels = experience.extras.draw.chosen.level
    assert 0 < jax.vmap(optimum)(levels).sum() < NUM_ENVS
    seen = experience.transitions
    seen = seen._replace(
        terminated=seen.terminated.at[-1].set(True),
        reward=seen.reward.at[-1].set((jnp.arange(NUM_ENVS) < 3).astype(jnp.float32)),
    )
    experience = experience._replace(transitions=seen)
    _, metrics = jax.jit(lambda *args: student.learn(*args))(state, hypers, experience)
    returns = np.asarray(episode_returns(seen.reward, seen.terminated | seen.truncated))
    rates = np.nanmean(np.where(np.isnan(returns), np.nan, returns > 0), axis=0)
    scored = np.asarray(jax.vmap(optimum)(levels)) > 0
    assert rates[scored].mean() > 0
    np.testing.assert_allclose(metrics["score"], rates[scored].mean(), rtol=1e-6)


def test_a_level_without_a_finished_episode_has_no_best_return():
    setup = students.Setup(AGENT, ENV, uniform(SAMPLE))
    returns = jnp.array([[jnp.nan, jnp.nan], [jnp.nan, -3.0]])
    found = students.compare_returns(setup, returns, LEVELS, jnp.full(2, -jnp.inf))
    np.testing.assert_array_equal(found.best_return, [-np.inf, -3.0])
