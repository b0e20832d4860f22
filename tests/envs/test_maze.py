"""The maze from the student's side: levels, their text, and the environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.maze import ARROWS, Maze, at, check, empty, from_text, held_out, make_level
from tests.envs.maze_text import to_text

LEFT, RIGHT, FORWARD = range(3)
ENV = Maze()
TRIVIAL = """
...
.#.
>#G
"""


def play(level, actions, env=ENV):
    """Step without auto-reset; a list of (state, reward, terminated, truncated)."""
    _, state = env.reset_env(jax.random.key(0), level)
    step, seen = jax.jit(env.step_env), []
    for action in actions:
        obs, state, reward, terminated, _ = step(jax.random.key(0), state, action, level)
        np.testing.assert_array_equal(obs, env.observe(state, level))
        truncated = env.is_truncated(state, level)
        seen.append((state, float(reward), bool(terminated), bool(truncated)))
    return seen


def where(state):
    """Cell and arrow of the agent."""
    return tuple(state.agent_pos.tolist()), ARROWS[state.agent_dir]


# Levels and their text ---------------------------------------------------------------------------


@st.composite
def levels(draw, size=5):
    """A valid level, built without the code under test."""
    cells = draw(st.permutations(range(size**2)))
    num_walls = draw(st.integers(0, size**2 - 2))
    walls = np.isin(np.arange(size**2), cells[2 : 2 + num_walls]).reshape(size, size)
    agent, goal = (divmod(cell, size) for cell in cells[:2])
    return make_level(walls, agent, draw(st.integers(0, 3)), goal, draw(st.integers(1, 999)))


@settings(max_examples=50, deadline=None)
@given(levels())
def test_a_level_survives_being_written_and_read(level):
    text = to_text(level)
    assert text.count("#") == level.walls.sum()
    read = from_text(text, size=5, max_steps=int(level.max_steps_in_episode))
    for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(level), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert to_text(read) == text


def test_a_small_maze_is_padded_with_walls():
    assert to_text(from_text(TRIVIAL, size=4)) == "...#\n.#.#\n>#G#\n####"
    level = from_text("v..\n..G", size=3)  # a row is missing
    assert to_text(level) == "v..\n..G\n###"


def test_a_level_has_the_promised_types():
    level = from_text(TRIVIAL)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(level)] == [
        ((13, 13), bool), ((2,), jnp.int32), ((), jnp.int32), ((2,), jnp.int32), ((), jnp.int32),
    ]  # fmt: skip
    assert level.agent_pos.tolist() == [2, 0]
    assert level.goal_pos.tolist() == [2, 2]
    assert level.max_steps_in_episode == 250


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">..\n..\n..G", "row 1 has 2 cells; it must have 3"),
        (">..\n...", r"goal \('G'\) at no cell"),
        ("...\n..G", r"agent \(one of '>v<\^'\) at no cell"),
        (">.G\nG..", r"goal \('G'\) at \(0, 2\) and \(1, 0\); there must be exactly one"),
        (">.G\n..v", r"agent .* at \(0, 0\) and \(1, 2\)"),
        (">.G\n.x.", r"'x' at \(1, 1\); it must be one of '#.G>v<\^'"),
        (">. G", r"' ' at \(0, 2\)"),
        (">...G", "1 x 5 cells; at most 4 x 4 fit"),
        (">\n.\n.\n.\nG", "5 x 1 cells; at most 4 x 4 fit"),
        (" ", "agent .* at no cell"),
    ],
)
def test_a_text_that_is_no_maze_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        from_text(text, size=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent_pos": (1, 1)}, r"agent_pos: \(1, 1\) is a wall; it must be a free cell"),
        ({"goal_pos": (1, 1)}, r"goal_pos: \(1, 1\) is a wall"),
        ({"goal_pos": (0, 0)}, r"goal_pos: \(0, 0\) is the agent's start"),
        ({"goal_pos": (0, 3)}, r"goal_pos: \(0, 3\) is not valid; .* of the 3 x 3 grid"),
        ({"agent_pos": (-1, 0)}, r"agent_pos: \(-1, 0\) is not valid"),
        ({"agent_pos": (0, 0, 0)}, r"agent_pos: \(0, 0, 0\) is not valid"),
        ({"agent_dir": 4}, "agent_dir: 4 is not valid; it must be 0, 1, 2, 3"),
        ({"agent_dir": 1.5}, "agent_dir: 1.5 is not valid; it must be integer"),
        ({"agent_pos": (0.5, 0)}, r"agent_pos: \(0.5, 0\) is not valid; it must be integer"),
        ({"max_steps": 2.5}, "max_steps_in_episode: 2.5 is not valid; it must be integer"),
        ({"max_steps": 0}, "max_steps_in_episode: 0 is not valid; it must be an integer >= 1"),
        ({"walls": np.zeros((3, 4))}, r"walls: shape \(3, 4\) is not valid; it must be square"),
    ],
)
def test_an_invalid_level_is_refused(change, message):
    walls = np.zeros((3, 3), bool)
    walls[1, 1] = True
    valid = dict(walls=walls, agent_pos=(0, 0), agent_dir=0, goal_pos=(2, 2))
    make_level(**valid)
    with pytest.raises(ValueError, match=message):
        make_level(**valid | change)


def test_what_a_jitted_function_made_can_be_checked():
    level = empty(5)
    assert check(level) is level
    on_wall = jax.jit(lambda level: level.replace(walls=level.walls.at[0, 0].set(True)))(level)
    with pytest.raises(ValueError, match=r"agent_pos: \(0, 0\) is a wall"):
        check(on_wall)


def test_the_standard_mazes():
    mazes = held_out()
    assert list(mazes) == [
        "TrivialMaze", "TrivialMaze2", "TrivialMaze3", "SixteenRooms", "SixteenRooms2",
        "Labyrinth", "LabyrinthFlipped", "Labyrinth2",
        "StandardMaze", "StandardMaze2", "StandardMaze3",
    ]  # fmt: skip
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *mazes.values())
    assert stacked.walls.shape == (11, 13, 13)
    assert to_text(mazes["TrivialMaze2"]).splitlines()[4] == ">.#.G########"
    assert to_text(mazes["Labyrinth"]).splitlines()[11:] == ["####.#.#####.", ">....#......."]
    # A traced function may ask for them, and still see concrete levels.
    assert jax.jit(lambda: np.asarray(held_out()["SixteenRooms"].walls).sum())() == 46


# Dynamics ----------------------------------------------------------------------------------------


def test_a_walk_by_hand():
    level = from_text(TRIVIAL)
    steps = [
        (FORWARD, (2, 0), ">"),  # a wall
        (RIGHT, (2, 0), "v"),
        (FORWARD, (2, 0), "v"),  # beyond the 3 x 3 cells: padding
        (RIGHT, (2, 0), "<"),
        (FORWARD, (2, 0), "<"),  # the edge of the grid
        (RIGHT, (2, 0), "^"),
        (FORWARD, (1, 0), "^"),
        (FORWARD, (0, 0), "^"),
        (FORWARD, (0, 0), "^"),  # the edge
        (LEFT, (0, 0), "<"),
        (LEFT, (0, 0), "v"),
        (LEFT, (0, 0), ">"),
        (FORWARD, (0, 1), ">"),
        (FORWARD, (0, 2), ">"),
        (RIGHT, (0, 2), "v"),
        (FORWARD, (1, 2), "v"),
        (FORWARD, (2, 2), "v"),  # the goal
    ]
    seen = play(level, [action for action, *_ in steps])
    assert [where(state) for state, *_ in seen] == [(cell, arrow) for _, cell, arrow in steps]
    assert [int(state.time) for state, *_ in seen] == list(range(1, 18))
    assert [reward for _, reward, *_ in seen[:-1]] == [0.0] * 16
    assert seen[-1][1] == pytest.approx(1 - 0.9 * 17 / 250)
    assert [terminated for *_, terminated, _ in seen] == [False] * 16 + [True]
    assert not any(truncated for *_, truncated in seen)


SHORTEST = [LEFT, FORWARD, FORWARD, RIGHT, FORWARD, FORWARD, RIGHT, FORWARD, FORWARD]


@pytest.mark.parametrize(
    ("limit", "reward", "terminated", "truncated"),
    [(8, 0.0, False, True), (9, 0.1, True, True), (10, 0.19, True, False)],
)
def test_the_goal_terminates_and_the_time_limit_truncates(limit, reward, terminated, truncated):
    level = from_text(TRIVIAL, max_steps=limit)
    seen = play(level, SHORTEST[:limit])
    assert not any(step[2] or step[3] for step in seen[:-1])
    assert seen[-1][1:] == (pytest.approx(reward), terminated, truncated)


def test_auto_reset_goes_back_to_the_start_and_keeps_the_final_observation():
    level = from_text(TRIVIAL)
    first, state = ENV.reset(jax.random.key(0), level)
    for action in SHORTEST[:-1]:
        obs, state, *_ = ENV.step(jax.random.key(1), state, action, level)
    obs, state, _, terminated, truncated, info = ENV.step(jax.random.key(1), state, FORWARD, level)
    assert (bool(terminated), bool(truncated)) == (True, False)
    assert where(state) == ((2, 0), ">") and state.time == 0
    np.testing.assert_array_equal(obs, first)
    final = play(level, SHORTEST)[-1][0]
    np.testing.assert_array_equal(info["final_observation"], ENV.observe(final, level))


# Observations ------------------------------------------------------------------------------------

LANDMARKS = """
..#....
.#...#.
...#...
#..A.G.
..#...#
....#..
#..#...
"""
# What the agent in the middle sees, by direction; its own cell is the last row's third.
VIEWS = {
    ">": "##### ...#. #.G.. ....# .#...",
    "v": "##### ..#.. .#... ...#. G....",
    "<": "##### ..#.. ....# .#... ...#.",
    "^": "##### .#... #...# ..#.. ....G",
}


@pytest.mark.parametrize("arrow", ARROWS)
def test_the_view_is_the_agents_own(arrow):
    level = from_text(LANDMARKS.replace("A", arrow), size=7)
    obs, _ = ENV.reset(jax.random.key(0), level)
    view = np.array([list(row) for row in VIEWS[arrow].split()])
    np.testing.assert_array_equal(obs[..., 0], view == "#")
    np.testing.assert_array_equal(obs[..., 1], view == "G")
    np.testing.assert_array_equal(
        obs[..., 2:], np.broadcast_to(np.eye(4)[ARROWS.index(arrow)], (5, 5, 4))
    )


def test_a_smaller_view_is_cut_from_a_larger_one():
    level = from_text(LANDMARKS.replace("A", "<"), size=7)
    large, _ = ENV.reset(jax.random.key(0), level)
    small, _ = Maze(view_size=3).reset(jax.random.key(0), level)
    np.testing.assert_array_equal(small, large[2:, 1:4])


def test_cells_outside_a_grid_get_the_value_for_outside():
    grid = jnp.arange(4).reshape(2, 2)
    cells = jnp.array([(0, 0), (1, 1), (-1, 0), (0, -1), (2, 0), (0, 2)])
    assert at(grid, cells, outside=9).tolist() == [0, 3, 9, 9, 9, 9]


def test_spaces():
    env = Maze(lambda key: empty(6), view_size=7)
    level = env.default_params
    assert level.walls.shape == (6, 6) and not level.walls.any()
    obs, _ = env.reset(jax.random.key(0), level)
    space = env.observation_space(level)
    assert obs.shape == space.shape == (7, 7, 6)
    assert obs.dtype == space.dtype == jnp.float32
    assert space.contains(obs)
    assert env.action_space(level).n == env.num_actions == 3
    assert env.name == "maze"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"view_size": 4}, "Maze.view_size: 4 is not valid; it must be an odd integer >= 3"),
        ({"view_size": 1}, "view_size: 1 is not valid"),
        ({"view_size": 5.0}, "view_size: 5.0 is not valid; it must be an integer"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Maze(**settings)


# Batches -----------------------------------------------------------------------------------------


def test_random_play_on_all_standard_mazes_at_once():
    """Against a walk in Python, with auto-reset, over levels in parallel."""
    mazes = [level.replace(max_steps_in_episode=jnp.int32(40)) for level in held_out().values()]
    params = jax.tree.map(lambda *x: jnp.stack(x), *mazes)
    actions = np.random.default_rng(0).choice([LEFT, RIGHT, FORWARD, FORWARD], (200, len(mazes)))

    @jax.jit
    def rollout(params):
        key = jax.random.key(0)
        reset, step = jax.vmap(ENV.reset, (None, 0)), jax.vmap(ENV.step, (None, 0, 0, 0))

        def body(state, action):
            _, state, reward, terminated, truncated, _ = step(key, state, action, params)
            return state, (state.agent_pos, state.agent_dir, reward, terminated, truncated)

        return jax.lax.scan(body, reset(key, params)[1], actions)[1]

    seen = jax.tree.map(np.asarray, rollout(params))
    for m, maze in enumerate(mazes):
        grid = to_text(maze).splitlines()
        start = tuple(maze.agent_pos.tolist()), int(maze.agent_dir)
        (row, column), direction, time = *start, 0
        for t in range(200):
            action, time = actions[t, m], time + 1
            direction = (direction + {LEFT: -1, RIGHT: 1, FORWARD: 0}[int(action)]) % 4
            if action == FORWARD:
                ahead = {">": (0, 1), "v": (1, 0), "<": (0, -1), "^": (-1, 0)}[ARROWS[direction]]
                to = row + ahead[0], column + ahead[1]
                if min(to) >= 0 and max(to) < 13 and grid[to[0]][to[1]] != "#":
                    row, column = to
            terminated, truncated = grid[row][column] == "G", time == 40
            reward = 1 - 0.9 * time / 40 if terminated else 0
            if terminated or truncated:
                (row, column), direction, time = *start, 0
            agent_pos, agent_dir, *rest = (x[t, m] for x in seen)
            assert (*agent_pos, agent_dir) == (row, column, direction)
            assert rest == [pytest.approx(reward), terminated, truncated]
    assert seen[4].any() and seen[3].any()  # both ways to end were met
