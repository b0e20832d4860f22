"""The best returns that can be reached on levels, where they can be computed."""

from typing import Any

import jax
import numpy as np

from envs.gridworld import GridWorld, MovingGridWorld
from envs.gridworld_solution import solve
from purejaxrl.parts.wrappers import unwrapped


def optimal_returns(env: Any, levels: Any) -> np.ndarray | None:
    """Compute the optimal return of every level, float32 `[num_levels]`.

    Args:
        env: the environment of the levels, which may be wrapped.
        levels: leaves `[num_levels, ...]`.

    Returns:
        The returns; None for an environment whose optimum is not known.
    """
    env = unwrapped(env)
    if isinstance(env, MovingGridWorld):
        return None
    if isinstance(env, GridWorld):
        return np.asarray(jax.jit(jax.vmap(solve))(levels).optimal_return)
    if hasattr(env, "optimal_return"):
        return np.asarray(jax.vmap(env.optimal_return)(levels))
    return None
