"""The exact optimum of a tabular grid-world level, by value iteration backwards in time.

The state is the agent's cell, the set of objects present, and the time. Objects do not move, so a
step collects at most one. Absent objects respawn independently, so the expectation over respawns
factorises over the objects. The undiscounted optimum up to the time limit normalises results. A
learning agent, in contrast, bootstraps at the limit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.gridworld import MOVES, Level, move, table_row


class Solution(NamedTuple):
    """The optimum at the start of an episode; rows as in `gridworld.table_row`."""

    value: jax.Array  # float32 [num_rows], at time 0
    optimal_return: jax.Array  # float32, from the level's start


def solve(level: Level) -> Solution:
    """Solve a level, of any extent, whose objects do not move; vmap it over levels.

    Rewards are not discounted, and do not count after the level's time limit.
    """
    backup = _backup(level)
    steps = level.max_steps_in_episode
    value = jax.lax.fori_loop(0, steps, lambda _, value: backup(value).max(0), _zero(level))
    start = table_row(level.start, level.object_exists, level.walls.size)
    return Solution(value, value[start])


def optimal_return(level: Level) -> jax.Array:
    """Undiscounted optimal return from the level's start, up to the time limit: float32 `[]`."""
    return solve(level).optimal_return


def _zero(level: Level) -> jax.Array:
    return jnp.zeros(level.walls.size * 2 ** level.object_cell.shape[-1])


def _backup(level: Level):
    """Make a Bellman backup: values `[num_rows]` to action values `[num_actions, num_rows]`."""
    num_cells, num_objects = level.walls.size, level.object_cell.shape[-1]
    subsets = np.arange(2**num_objects)
    holds = (subsets[:, None] >> np.arange(num_objects)) % 2 == 1  # [subsets, objects]
    kind = level.object_type
    respawn = jnp.where(level.object_exists, level.respawn_prob[kind], 0.0)
    reward, terminate = level.reward[kind], level.terminate_prob[kind]
    cells, actions = np.meshgrid(np.arange(num_cells), np.arange(len(MOVES)))
    arrived = jax.vmap(jax.vmap(move, (None, 0, 0)), (None, 0, 0))(level.walls, cells, actions)

    def after_respawn(value, collected=None):
        """Take the expectation over respawns; `[subsets, ...]`, by the objects present before."""
        for i in range(num_objects):
            if i != collected:
                value += respawn[i] * (value[subsets | 1 << i] - value)
        return value

    def backup(value: jax.Array) -> jax.Array:
        value = value.reshape(len(subsets), num_cells)
        on_arrival = after_respawn(value)
        for i in range(num_objects):
            cell = level.object_cell[i]
            without_i = after_respawn(value[:, cell], i)[subsets & ~(1 << i)]
            collect = reward[i] + (1.0 - terminate[i]) * without_i
            collected = jnp.where(holds[:, i], collect, on_arrival[:, cell])
            on_arrival = on_arrival.at[:, cell].set(
                jnp.where(level.object_exists[i], collected, on_arrival[:, cell])
            )
        return level.offset + on_arrival[:, arrived].swapaxes(0, 1).reshape(len(MOVES), -1)

    return backup
