"""Mazes as sequences of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import maze_levels
from envs.maze import check, from_text
from envs.maze_tokens import MazeTokens, wall_f1
from tests.envs.maze_text import to_text
from tests.helpers import assert_equal

TOKENS = MazeTokens(size=4, max_walls=6, max_steps=50)
NONE = 16


def test_a_maze_is_written_with_its_walls_in_order():
    level = from_text(">.#.\n#...\n....\n..#G", size=4, max_steps=50)
    assert TOKENS.write(level).tolist() == [2, 4, 14, NONE, NONE, NONE, 15, 0, 0]
    assert TOKENS.length == 9 and TOKENS.vocabulary == 17


def test_reading_what_was_written_returns_the_maze():
    sample = maze_levels.uniform(6, size=4, max_steps=50)
    levels = jax.vmap(sample)(jax.random.split(jax.random.key(0), 200))
    written = jax.vmap(TOKENS.write)(levels)
    assert_equal(jax.vmap(TOKENS.read)(written), levels)
    places = np.arange(TOKENS.length)
    assert TOKENS.allowed()[places, np.asarray(written)].all()


def test_whatever_is_allowed_is_a_valid_maze():
    allowed = jnp.where(jnp.asarray(TOKENS.allowed()), 0.0, -jnp.inf)
    tokens = jax.random.categorical(jax.random.key(0), allowed, shape=(200, TOKENS.length))
    levels = jax.vmap(TOKENS.read)(tokens)
    for i in range(50):
        check(jax.tree.map(lambda x: x[i], levels))  # noqa: B023
    same = (tokens[:, -3] == tokens[:, -2]).argmax()
    assert tokens[same, -3] == tokens[same, -2]  # the agent would stand on the goal
    moved = jax.tree.map(lambda x: x[same], levels)
    assert 4 * moved.agent_pos[0] + moved.agent_pos[1] == (tokens[same, -2] + 1) % 16
    assert "#" in to_text(jax.tree.map(lambda x: x[0], levels))


def test_the_f1_score_of_walls():
    walls = jnp.array([[True, True], [False, True]])
    found = jnp.array([[True, False], [True, True]])
    np.testing.assert_allclose(wall_f1(found, walls), 2 * 2 / (3 + 3))
    assert wall_f1(walls, walls) == 1 and wall_f1(~walls, walls) == 0


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="max_walls: 15 is not valid; .* at most 14"):
        MazeTokens(size=4, max_walls=15)
    with pytest.raises(ValueError, match="MazeTokens.size: 1 is not valid"):
        MazeTokens(size=1, max_walls=1)
