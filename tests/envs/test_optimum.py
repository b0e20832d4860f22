"""Optimal returns of levels, and None where they are not known."""

import jax
import numpy as np
import pytest

import envs
from envs.gridworld_solution import solve
from envs.maze import from_text
from envs.optimum import optimal_returns, solver
from purejaxrl.parts.wrappers import FlattenObservation


def levels_of(env, count=3):
    return jax.jit(jax.vmap(env.sample_level))(jax.random.split(jax.random.key(0), count))


def test_the_optimum_of_grid_worlds_is_that_of_value_iteration():
    env, _ = envs.make("gridworld-small")
    levels = levels_of(env)
    found = optimal_returns(FlattenObservation(env), levels)
    np.testing.assert_array_equal(found, jax.jit(jax.vmap(solve))(levels).optimal_return)
    assert found.shape == (3,) and (found >= 0).all()


def test_an_environment_may_know_its_own_optimum():
    env, _ = envs.make("chain-short")
    levels = levels_of(env)
    expected = [env.optimal_return(jax.tree.map(lambda x, i=i: x[i], levels)) for i in range(3)]
    np.testing.assert_allclose(optimal_returns(env, levels), expected, rtol=1e-6)


def test_the_optimum_of_a_maze_is_that_of_its_shortest_path():
    env, _ = envs.make("maze-60")
    level = from_text(">.G", size=3, max_steps=9)
    np.testing.assert_allclose(solver(FlattenObservation(env))(level), 1 - 0.9 * 2 / 9, rtol=1e-6)


@pytest.mark.parametrize("name", ["CartPole-v1", "gridworld-rand_all"])
def test_where_it_is_not_known_there_is_none(name):
    assert optimal_returns(envs.make(name)[0], None) is None
