"""Environments that each have a level equal separate environments on those levels."""

import jax
import jax.numpy as jnp
import numpy as np

import envs
from algos import ppo
from envs import maze, maze_levels
from purejaxrl.algorithm import Task
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued.student import OwnLevel, move_to_levels
from tests.helpers import assert_equal

NUM_ENVS = 5
LEVELS = jax.vmap(maze_levels.uniform(20, max_steps=7))(jax.random.split(jax.random.key(0), 5))


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
    together = play(jax.vmap(env.step, (0, 0, 0)), state, keys, actions)
    for i in range(NUM_ENVS):
        level = jax.tree.map(lambda x: x[i], LEVELS)  # noqa: B023
        _, state = inner.reset(keys[0, i], level)
        alone = play(lambda *args: inner.step(*args, level), state, keys[:, i], actions[:, i])  # noqa: B023
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
    state = student.init(jax.random.key(0), ppo.Hypers(), task)
    state, _ = student.collect(state, ppo.Hypers())
    moved = move_to_levels(jax.random.key(1), state, env, LEVELS)
    env_state = moved.interaction.env_state
    assert_equal(env_state.level, LEVELS)
    np.testing.assert_array_equal(env_state.inner.agent_pos, LEVELS.agent_pos)
    assert moved.interaction.first.all() and (moved.interaction.episode.length == 0).all()
    assert_equal(moved.params, state.params)
    after, trajectory = student.collect(moved, ppo.Hypers())
    assert_equal(after.interaction.env_state.level, LEVELS)
    expected = jax.vmap(maze.Maze().observe)(env_state.inner, LEVELS).reshape(NUM_ENVS, -1)
    np.testing.assert_array_equal(trajectory.transitions.obs[0], expected)
