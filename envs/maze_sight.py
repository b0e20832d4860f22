"""What partial sight costs in a maze: an explorer that forgets nothing, beside the optimum.

The optimum of `maze_solution.py` knows the maze from the start. A student sees a few cells ahead,
so it has to search, and no student can reach the optimum on every level. The explorer here has a
student's sight and a perfect map. Its mean regret estimates what limited sight costs. It is no
bound: it knows its position and the size of the maze, which a student does not, and it is greedy.
"""

import jax
import jax.numpy as jnp
import numpy as np

from envs.maze import DIRECTIONS, FORWARD, Level, at, goal_reward, view_cells
from envs.maze_solution import UNREACHABLE, actions_to, optimal_return

VIEW_SIZE = 5


def explorer_length(level: Level, view_size: int = VIEW_SIZE) -> jax.Array:
    """Count the explorer's actions to the goal, int32; `UNREACHABLE` if its time ends before.

    It assumes that cells it has not seen have no walls. While it has not seen the goal, it goes to
    the nearest place from which it would see a new cell; then it goes to the goal.
    """
    size, directions = level.walls.shape[-1], jnp.asarray(DIRECTIONS)

    def act(carry: tuple) -> tuple:
        cell, direction, seen, steps = carry
        view = view_cells(cell, direction, view_size)
        seen = seen.at[view[..., 0], view[..., 1]].set(
            True, mode="drop", wrap_negative_indices=False
        )
        goal = jnp.zeros((4, size, size), bool).at[:, *level.goal_pos].set(True)
        poses = jnp.where(seen[tuple(level.goal_pos)], goal, shows_any(~seen, view_size))
        walls = level.walls & seen
        left_to_go = actions_to(poses & ~walls, walls)

        turned = jnp.array([direction - 1, direction + 1, direction]) % 4
        ahead = cell + directions[direction]
        forward = at(left_to_go[direction], ahead, outside=UNREACHABLE)
        after_turn = left_to_go[turned[:2], *cell]
        action = jnp.argmin(jnp.array([*after_turn, forward]))
        moves = (action == FORWARD) & (forward < UNREACHABLE)
        return jnp.where(moves, ahead, cell), turned[action], seen, steps + 1

    def goes_on(carry: tuple) -> jax.Array:
        cell, _, _, steps = carry
        return (cell != level.goal_pos).any() & (steps < level.max_steps_in_episode)

    start = level.agent_pos, level.agent_dir, jnp.zeros(level.walls.shape, bool), jnp.int32(0)
    cell, _, _, steps = jax.lax.while_loop(goes_on, act, start)
    return jnp.where((cell == level.goal_pos).all(), steps, UNREACHABLE)


def shows_any(cells: jax.Array, view_size: int = VIEW_SIZE) -> jax.Array:
    """Say from which directions and cells at least one of some cells is in view.

    Args:
        cells: bool `[size, size]`.
        view_size: rows and columns of the view.

    Returns:
        bool `[4, size, size]`.
    """
    size, reach = cells.shape[-1], view_size - 1
    padded, shown = jnp.pad(cells, reach), []
    for direction in range(len(DIRECTIONS)):
        offsets = offsets_in_view(direction, view_size) + reach
        views = [padded[row : row + size, column : column + size] for row, column in offsets]
        shown.append(jnp.any(jnp.stack(views), axis=0))
    return jnp.stack(shown)


def offsets_in_view(direction: int, view_size: int) -> np.ndarray:
    """Return the cells in view relative to the agent's, `[view_size ** 2, 2]`."""
    with jax.ensure_compile_time_eval():
        return np.asarray(view_cells(jnp.zeros(2, jnp.int32), direction, view_size)).reshape(-1, 2)


def sight_regret(level: Level, view_size: int = VIEW_SIZE) -> jax.Array:
    """Subtract the explorer's return from the optimal one, float32; 0 without a solution."""
    length, limit = explorer_length(level, view_size), level.max_steps_in_episode
    return optimal_return(level) - jnp.where(length <= limit, goal_reward(length, limit), 0.0)


def unattainable_share(levels: Level, view_size: int = VIEW_SIZE) -> jax.Array:
    """Return the share of the optimal return that the explorer misses, over levels `[n, ...]`."""
    regret = jax.vmap(lambda level: sight_regret(level, view_size))(levels)
    return regret.sum() / jax.vmap(optimal_return)(levels).sum()
