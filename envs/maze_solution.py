"""The exact shortest paths of a maze, on the device; vmap them over levels.

The optimum is that of an agent that knows the maze. An agent with a partial view has to explore, so
the optimum is only an upper bound of its return.
"""

import jax
import jax.numpy as jnp
import numpy as np

from envs.maze import DIRECTIONS, Level, goal_reward

UNREACHABLE = np.int32(2**30)
"""The number of actions where no path leads to the goal."""


def actions_to_goal(level: Level) -> jax.Array:
    """Fewest actions, turns counted, from each direction and cell to the goal.

    Returns:
        int32 `[4, size, size]`; `UNREACHABLE` in walls and where no path leads to the goal.
    """

    goal = jnp.zeros((len(DIRECTIONS), *level.walls.shape), bool)
    return actions_to(goal.at[:, *level.goal_pos].set(True), level.walls)


def actions_to(poses: jax.Array, walls: jax.Array) -> jax.Array:
    """Fewest actions, turns counted, from each direction and cell to the nearest of some.

    A breadth-first search from these backwards, all cells at once.

    Args:
        poses: bool `[4, size, size]`, where to go; at least one.
        walls: bool `[size, size]`.

    Returns:
        int32 `[4, size, size]`; `UNREACHABLE` in walls and where no path leads to any.
    """

    def extend(carry):
        reached, actions, _ = carry
        left, right = jnp.roll(reached, 1, axis=0), jnp.roll(reached, -1, axis=0)
        forward = [_ahead(x, direction) for x, direction in zip(reached, DIRECTIONS, strict=True)]
        extended = reached | ((left | right | jnp.stack(forward)) & ~walls)
        return extended, actions + ~reached, (extended != reached).any()

    start = (poses, jnp.zeros(poses.shape, jnp.int32), jnp.bool_(True))
    reached, actions, _ = jax.lax.while_loop(lambda carry: carry[2], extend, start)
    return jnp.where(reached, actions, UNREACHABLE)


def solvable(level: Level) -> jax.Array:
    """Whether a path leads from the agent to the goal, bool."""
    return optimal_length(level) < UNREACHABLE


def optimal_length(level: Level) -> jax.Array:
    """Fewest actions from the start to the goal, int32, without a time limit."""
    return actions_to_goal(level)[level.agent_dir, *level.agent_pos]


def optimal_return(level: Level) -> jax.Array:
    """Return of the shortest path, float32; 0 if it takes longer than the time limit."""
    length, limit = optimal_length(level), level.max_steps_in_episode
    return jnp.where(length <= limit, goal_reward(length, limit), jnp.float32(0))


def _ahead(grid: jax.Array, direction: np.ndarray) -> jax.Array:
    """Each cell's neighbour in one direction, bool `[size, size]`; False beyond the edge."""
    size = grid.shape[-1]
    row, column = 1 + direction
    return jnp.pad(grid, 1)[row : row + size, column : column + size]
