"""What partial sight costs: an explorer beside the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import maze_levels
from envs.maze import from_text, goal_reward
from envs.maze_sight import explorer_length, shows_any, sight_regret, unattainable_share
from envs.maze_solution import UNREACHABLE, optimal_length, optimal_return, solvable

MAZES = {  # the explorer's actions by hand, with a view of 3 x 3, and the fewest that are possible
    "in sight": (">.G", 2, 2),
    "behind it": ("G.>", 4, 4),  # it turns twice, and sees the goal
    "a dead end": (
        """
        ###.....
        ...>....
        .#######
        G#######
        """,
        None,
        8,  # it turns twice, goes 3 back, turns once, and goes 2 down
    ),
}
"""Text, the explorer's actions (None: more than the fewest), and the fewest."""


def level_of(text, **options):
    return from_text(text, size=8, **options)


@pytest.mark.parametrize("name", MAZES)
def test_an_explorer_needs_as_many_actions_as_by_hand(name):
    text, length, fewest = MAZES[name]
    level = level_of(text)
    found = int(jax.jit(lambda level: explorer_length(level, 3))(level))
    assert optimal_length(level) == fewest
    assert found == length if length else fewest < found < 40


@pytest.mark.slow
def test_with_a_view_of_the_whole_maze_nothing_is_lost_but_turns():
    sample = jax.jit(jax.vmap(maze_levels.uniform(8, size=5)))
    levels = sample(jax.random.split(jax.random.key(0), 32))
    length = jax.jit(jax.vmap(lambda level: explorer_length(level, 21)))(levels)
    fewest = jax.jit(jax.vmap(optimal_length))(levels)
    assert ((fewest <= length) & ((length <= fewest + 4) | (fewest == UNREACHABLE))).all()


@pytest.mark.slow
def test_the_explorer_reaches_every_goal_that_can_be_reached_and_never_beats_the_optimum():
    sample = maze_levels.uniform(20, size=7, max_steps=250)
    levels = jax.vmap(sample)(jax.random.split(jax.random.key(0), 64))
    length = jax.jit(jax.vmap(explorer_length))(levels)
    fewest, possible = jax.vmap(optimal_length)(levels), jax.vmap(solvable)(levels)
    np.testing.assert_array_equal(length < UNREACHABLE, possible)
    assert 20 < possible.sum() < 64 and (length >= fewest).all()
    expected = jnp.where(possible, goal_reward(fewest, 250) - goal_reward(length, 250), 0.0)
    np.testing.assert_allclose(jax.vmap(sight_regret)(levels), expected, atol=1e-6)
    share = expected.sum() / jax.vmap(optimal_return)(levels).sum()
    np.testing.assert_allclose(jax.jit(unattainable_share)(levels), share, rtol=1e-5)
    assert 0 < share < 0.5


def test_an_explorer_whose_time_ends_has_no_return():
    level = level_of("G.>", max_steps=3)
    assert explorer_length(level) == UNREACHABLE and sight_regret(level) == 0


def test_a_cell_is_shown_from_where_it_is_in_view():
    cells = np.zeros((5, 5), bool)
    cells[2, 2] = True
    right, down, left, up = np.asarray(shows_any(jnp.asarray(cells), 3))
    expected = np.zeros((5, 5), bool)
    expected[1:4, 0:3] = True  # facing right, up to two cells behind it and one to the side
    np.testing.assert_array_equal(right, expected)
    np.testing.assert_array_equal(left, expected[:, ::-1])
    np.testing.assert_array_equal(down, expected.T)
    np.testing.assert_array_equal(up, expected.T[::-1])
