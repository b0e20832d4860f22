"""The best returns that can be reached on levels, where they can be computed."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from envs.gridworld import GridWorld, MovingGridWorld
from envs.gridworld_solution import optimal_return
from envs.maze import Maze
from envs.maze_solution import optimal_return as optimal_return_of_maze
from purejaxrl.parts.wrappers import unwrapped


def solver(env: Any) -> Callable[[Any], jax.Array] | None:
    """Return the function from a level of an environment to its optimal return, float32 `[]`.

    Args:
        env: the environment, which may be wrapped.

    Returns:
        A pure function of a level; None for an environment whose optimum is not known.
    """
    env = unwrapped(env)
    if isinstance(env, MovingGridWorld):
        return None
    if isinstance(env, GridWorld):
        return optimal_return
    if isinstance(env, Maze):
        return optimal_return_of_maze
    return getattr(env, "optimal_return", None)


def optimal_returns(env: Any, levels: Any) -> np.ndarray | None:
    """Compute the optimal return of every level, float32 `[num_levels]`.

    Args:
        env: the environment of the levels, which may be wrapped.
        levels: leaves `[num_levels, ...]`.

    Returns:
        The returns; None for an environment whose optimum is not known.
    """
    solve = solver(env)
    return None if solve is None else np.asarray(jax.jit(jax.vmap(solve))(levels))
