"""The exact shortest paths of a maze, on the device; vmap them over levels.

The optimum is that of an agent that knows the maze. An agent with a partial view has to explore, so
the optimum is only an upper bound of its return.
"""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from envs.maze import DIRECTIONS, Level, goal_reward

UNREACHABLE = np.int32(2**30)
"""The distance of cells without a path to the goal."""


def distances(level: Level) -> jax.Array:
    """Fewest moves from each cell to the goal, turns not counted.

    Returns:
        int32 `[size, size]`; `UNREACHABLE` in walls and where no path leads to the goal.
    """

    def before(reached: jax.Array) -> jax.Array:
        return reduce(jnp.logical_or, [_ahead(reached, direction) for direction in DIRECTIONS])

    goal = jnp.zeros(level.walls.shape, bool).at[tuple(level.goal_pos)].set(True)
    return _search(before, level.walls, goal)


def actions_to_goal(level: Level) -> jax.Array:
    """Fewest actions, turns counted, from each direction and cell to the goal.

    Returns:
        int32 `[4, size, size]`; `UNREACHABLE` in walls and where no path leads to the goal.
    """

    goal = jnp.zeros((len(DIRECTIONS), *level.walls.shape), bool)
    return actions_to(goal.at[:, *level.goal_pos].set(True), level.walls)


def actions_to(poses: jax.Array, walls: jax.Array) -> jax.Array:
    """Fewest actions, turns counted, from each direction and cell to the nearest of some.

    Args:
        poses: bool `[4, size, size]`, where to go; at least one.
        walls: bool `[size, size]`.

    Returns:
        int32 `[4, size, size]`; `UNREACHABLE` in walls and where no path leads to any.
    """

    def before(reached: jax.Array) -> jax.Array:
        left, right = jnp.roll(reached, 1, axis=0), jnp.roll(reached, -1, axis=0)
        forward = [_ahead(x, direction) for x, direction in zip(reached, DIRECTIONS, strict=True)]
        return left | right | jnp.stack(forward)

    return _search(before, jnp.broadcast_to(walls, poses.shape), poses)


def solvable(level: Level) -> jax.Array:
    """Whether a path leads from the agent to the goal, bool."""
    return distances(level)[tuple(level.agent_pos)] < UNREACHABLE


def optimal_length(level: Level) -> jax.Array:
    """Fewest actions from the start to the goal, int32, without a time limit."""
    return actions_to_goal(level)[level.agent_dir, *level.agent_pos]


def optimal_return(level: Level, gamma: float | jax.Array = 1.0) -> jax.Array:
    """Return of the shortest path, float32; 0 if it takes longer than the time limit."""
    length, limit = optimal_length(level), level.max_steps_in_episode
    discounted = gamma ** (length - 1) * goal_reward(length, limit)
    return jnp.where(length <= limit, discounted, 0.0)


def _search(
    before: Callable[[jax.Array], jax.Array], walls: jax.Array, goal: jax.Array
) -> jax.Array:
    """Breadth-first search from the goal backwards, all cells at once.

    Args:
        before: maps states to the states one action before them, bool `walls.shape`.
        walls: bool `[..., size, size]`.
        goal: bool `walls.shape`.

    Returns:
        Actions to the goal, int32 `walls.shape`.
    """

    def extend(carry):
        reached, actions, _ = carry
        extended = reached | (before(reached) & ~walls)
        return extended, actions + ~reached, (extended != reached).any()

    start = (goal, jnp.zeros(walls.shape, jnp.int32), jnp.bool_(True))
    reached, actions, _ = jax.lax.while_loop(lambda carry: carry[2], extend, start)
    return jnp.where(reached, actions, UNREACHABLE)


def _ahead(grid: jax.Array, direction: np.ndarray) -> jax.Array:
    """Each cell's neighbour in one direction, bool `[size, size]`; False beyond the edge."""
    size = grid.shape[-1]
    row, column = 1 + direction
    return jnp.pad(grid, 1)[row : row + size, column : column + size]
