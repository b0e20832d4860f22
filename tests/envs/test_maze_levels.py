"""Random mazes, mutated mazes, and shortest paths."""

import functools
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.maze import ARROWS, Maze, check, from_text, held_out
from envs.maze_domain import mazes
from envs.maze_levels import mutate, perfect, uniform
from envs.maze_solution import (
    UNREACHABLE,
    actions_to_goal,
    optimal_length,
    optimal_return,
    solvable,
)
from tests.envs.maze_text import to_text
from tests.helpers import mostly_slow

SEEDS = st.integers(0, 2**31 - 1)
STEPS = {">": (0, 1), "v": (1, 0), "<": (0, -1), "^": (-1, 0)}
SAMPLERS = {
    "25 walls": uniform(25),
    "60 walls": uniform(60),
    "3 x 3": uniform(7, size=3),
    "6 x 6": uniform(24, size=6),
    "perfect": perfect(),
    "perfect 6 x 6": perfect(size=6),
}


def draw(name, count, seed=0):
    """Many levels, leaves `[count, ...]`, as NumPy arrays."""
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.tree.map(np.asarray, batched(SAMPLERS[name])(keys))


@functools.cache  # compiled once, whichever test asks
def batched(sample):
    return jax.jit(jax.vmap(sample))


def assert_valid(levels):
    """Assert that every one of many levels is valid, as `check` does of one."""
    count, size, _ = levels.walls.shape
    assert levels.walls.dtype == bool
    for cells in (levels.agent_pos, levels.goal_pos):
        assert cells.shape == (count, 2) and cells.dtype == np.int32
        assert cells.min() >= 0 and cells.max() < size
        assert not levels.walls[np.arange(count), cells[:, 0], cells[:, 1]].any()
    assert (levels.agent_pos != levels.goal_pos).any(-1).all()
    assert levels.agent_dir.dtype == levels.max_steps_in_episode.dtype == np.int32
    assert levels.agent_dir.min() >= 0 and levels.agent_dir.max() < 4
    check(jax.tree.map(lambda x: x[0], levels))


# Samplers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mostly_slow(SAMPLERS, {"25 walls", "perfect 6 x 6"}))
def test_sampled_levels_are_valid(name):
    assert_valid(draw(name, 20_000))


def test_the_number_of_walls_is_uniform():
    counts = np.bincount(draw("25 walls", 20_000).walls.sum((1, 2)), minlength=26)
    assert len(counts) == 26
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("what", ["agent_pos", "goal_pos", "walls"])
def test_no_cell_is_favoured(what):
    levels = draw("3 x 3", 20_000)
    if what == "walls":
        counts = levels.walls.sum(0).ravel()
    else:
        row, column = getattr(levels, what).T
        counts = np.bincount(3 * row + column, minlength=9)
    # Walls of one level exclude each other, so their counts scatter less than chi-square's.
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert len(counts) == 9


@pytest.mark.parametrize(
    ("name", "rooms"), [pytest.param("perfect", 7, marks=pytest.mark.slow), ("perfect 6 x 6", 3)]
)
def test_a_perfect_maze_is_a_spanning_tree(name, rooms):
    """Connected, with one edge less than cells: one path between any two."""
    levels = jax.tree.map(lambda x: x[:1000], draw(name, 20_000))
    free = ~levels.walls
    assert free[:, ::2, ::2].any((1, 2)).all()
    down, right = free[:, 1:] & free[:, :-1], free[:, :, 1:] & free[:, :, :-1]
    np.testing.assert_array_equal(free.sum((1, 2)), 2 * rooms**2 - 1)
    np.testing.assert_array_equal(down.sum((1, 2)) + right.sum((1, 2)), 2 * rooms**2 - 2)
    reached = jax.jit(jax.vmap(actions_to_goal))(levels) < UNREACHABLE
    assert (reached == free[:, None]).all()


def depth_first(walls, path):
    """All that a depth-first search may carve, being at the end of its path: as bytes."""
    if not path:
        return {walls.tobytes()}
    (row, column), found = path[-1], set()
    for down, right in STEPS.values():
        room = row + 2 * down, column + 2 * right
        if min(room) >= 0 and max(room) < len(walls) and walls[room]:
            carved = walls.copy()
            carved[room] = carved[row + down, column + right] = False
            found |= depth_first(carved, [*path, room])
    return found or depth_first(walls, path[:-1])


def test_perfect_mazes_are_all_that_a_depth_first_search_can_carve():
    possible = set()
    for start in [(row, column) for row in (0, 2, 4) for column in (0, 2, 4)]:
        walls = np.ones((6, 6), bool)
        walls[start] = False
        possible |= depth_first(walls, [start])
    assert {walls.tobytes() for walls in draw("perfect 6 x 6", 20_000).walls} == possible


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(168), "max_walls: 168 is not valid; it must be an integer from 0 to 167"),
        (lambda: uniform(-1), "max_walls: -1 is not valid"),
        (lambda: perfect(2), "size: 2 is not valid; it must be an integer >= 3"),
        (lambda: uniform(25, max_steps=0), "max_steps: 0 is not valid; it must be an integer >= 1"),
        (lambda: perfect(7, max_steps=1.5), "max_steps: 1.5 is not valid"),
        (
            lambda: mazes(5, size=7, num_edits=60),
            "num_edits: 60 is not valid; .* integer from 1 to 47",
        ),
    ],
)
def test_impossible_mazes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Mutation ----------------------------------------------------------------------------------------

MUTATE = jax.jit(jax.vmap(mutate))
FULL = from_text("###\n>G#\n###", size=3)  # nowhere to go but where a wall is


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_mutated_levels_are_valid(seed):
    """Any number of edits, of crowded and of open levels alike."""
    levels = draw("3 x 3", 64, seed)
    keys = jax.random.split(jax.random.key(seed + 1), 64)
    assert_valid(jax.tree.map(np.asarray, MUTATE(keys, levels, jnp.arange(64))))


def test_no_edit_changes_nothing_and_one_edit_one_thing():
    levels = draw("60 walls", 4000)
    keys = jax.random.split(jax.random.key(1), 4000)
    same = MUTATE(keys, levels, jnp.zeros(4000, jnp.int32))
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(levels), strict=True):
        np.testing.assert_array_equal(a, b)

    edited = jax.tree.map(np.asarray, MUTATE(keys, levels, jnp.ones(4000, jnp.int32)))
    agent = (edited.agent_pos != levels.agent_pos).any(-1)
    goal = (edited.goal_pos != levels.goal_pos).any(-1)
    walls = (edited.walls != levels.walls).sum((1, 2))
    turned = edited.agent_dir != levels.agent_dir
    assert not (agent & goal).any()
    np.testing.assert_array_equal(walls[~agent & ~goal], 1)
    assert walls.max() == 1  # where agent or goal go, a wall is removed
    removed = levels.walls & ~edited.walls
    assert removed.sum((1, 2))[agent | goal].sum() == walls[agent | goal].sum() > 0
    assert not turned[~agent].any() and turned[agent].mean() == pytest.approx(0.75, abs=0.06)
    assert goal.mean() == pytest.approx(0.25, abs=0.03)
    assert agent.mean() == pytest.approx(0.25, abs=0.03)


def test_edits_open_a_level_without_free_cells():
    keys = jax.random.split(jax.random.key(0), 100)
    levels = jax.tree.map(lambda x: jnp.broadcast_to(x, (100, *x.shape)), FULL)
    edited = jax.tree.map(np.asarray, MUTATE(keys, levels, jnp.ones(100, jnp.int32)))
    assert_valid(edited)
    assert (edited.walls.sum((1, 2)) == 6).all()


def test_a_static_number_of_edits_is_a_traced_one():
    level, key = held_out()["SixteenRooms"], jax.random.key(3)
    static, traced = mutate(key, level, 5), jax.jit(mutate)(key, level, jnp.int32(5))
    assert to_text(static) == to_text(traced) != to_text(level)


# Shortest paths ----------------------------------------------------------------------------------


@jax.jit
@jax.vmap
def solve(level):
    return actions_to_goal(level), solvable(level), optimal_length(level), optimal_return(level)


def search(grid, start):
    """Breadth-first search of (cell, direction) in a maze's text: actions to the goal, or None."""
    seen, queue = {start}, deque([(start, 0)])
    while queue:
        ((row, column), direction), actions = queue.popleft()
        if grid[row][column] == "G":
            return actions
        down, right = STEPS[ARROWS[direction]]
        ahead = row + down, column + right
        inside = min(ahead) >= 0 and max(ahead) < len(grid)
        neighbours = [((row, column), (direction + turn) % 4) for turn in (1, -1)]
        if inside and grid[ahead[0]][ahead[1]] != "#":
            neighbours.append((ahead, direction))
        queue.extend((state, actions + 1) for state in neighbours if state not in seen)
        seen.update(neighbours)
    return None


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_shortest_paths_are_those_of_a_search_in_python(seed):
    levels = draw("6 x 6", 16, seed)
    actions, can, length, value = map(np.asarray, solve(levels))
    for i in range(16):
        level = jax.tree.map(lambda x, i=i: x[i], levels)
        grid = to_text(level).splitlines()
        for row, column in np.argwhere(~level.walls):
            for direction in range(4):
                found = search(grid, ((row, column), direction))
                assert actions[i, direction, row, column] == (
                    UNREACHABLE if found is None else found
                )
        assert (actions[i][:, level.walls] == UNREACHABLE).all()
        steps = search(grid, (tuple(level.agent_pos), int(level.agent_dir)))
        assert can[i] == (steps is not None)
        if can[i]:
            assert length[i] == steps
            assert value[i] == pytest.approx(1 - 0.9 * steps / 250, rel=1e-4)
        else:
            assert length[i] == UNREACHABLE and value[i] == 0


def test_the_standard_mazes_are_solvable_and_their_optimum_is_a_searchs():
    mazes = held_out()
    levels = jax.tree.map(lambda *x: jnp.stack(x), *mazes.values())
    *_, can, length, _ = solve(levels)
    assert can.all()
    for maze, found in zip(mazes.values(), length, strict=True):
        start = tuple(maze.agent_pos.tolist()), int(maze.agent_dir)
        assert found == search(to_text(maze).splitlines(), start)
        assert found < maze.max_steps_in_episode
    named = dict(zip(mazes, length.tolist(), strict=True))
    assert named["TrivialMaze"] == 9  # counted by hand: three turns and six moves
    assert named["TrivialMaze2"] == 13  # three turns and ten moves


def test_the_optimal_return_is_what_the_greedy_walk_earns():
    """Following fewer actions to go, in the environment itself."""
    env, level = Maze(), held_out()["Labyrinth"]
    actions_left = np.asarray(actions_to_goal(level))
    step, (_, state) = jax.jit(env.step_env), env.reset_env(jax.random.key(0), level)
    key, rewards, terminated = jax.random.key(0), [], False
    while not terminated:
        tried = [step(key, state, action, level) for action in range(3)]
        _, state, reward, terminated, _ = min(
            tried, key=lambda x: actions_left[x[1].agent_dir, *x[1].agent_pos]
        )
        rewards.append(float(reward))
    assert len(rewards) == optimal_length(level)
    assert optimal_return(level) == pytest.approx(sum(rewards))


def test_the_optimal_return_is_zero_beyond_the_time_limit():
    level = held_out()["TrivialMaze"]
    for limit, value in ((8, 0.0), (9, 0.1), (250, 1 - 0.9 * 9 / 250)):
        limited = level.replace(max_steps_in_episode=jnp.int32(limit))
        assert optimal_return(limited) == pytest.approx(value)


def test_a_walled_in_goal_is_unreachable():
    level = from_text(">.#G\n..##\n....\n....", size=4)
    assert not solvable(level)
    assert optimal_length(level) == UNREACHABLE
    assert optimal_return(level) == 0
    actions = actions_to_goal(level)[:, 0]
    np.testing.assert_array_equal(actions, [[*[UNREACHABLE] * 3, 0]] * 4)
