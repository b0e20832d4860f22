"""Environments by name, all on the gymnax 1.x interface: ours, gymnax's, and Brax's.

Ours are parameterised by a *level*, their `params`: a traced pytree that `env.sample_level(key)`
draws, so that one compiled program trains agents on thousands of levels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnax

from envs import bandit, chain, gridworld, gridworld_levels, maze, maze_levels, tabular
from purejaxrl.validation import require_known


def _grid(level: str, observation: str = "row") -> gridworld.GridWorld:
    require_known("observation", observation, gridworld.OBSERVATIONS)
    levels = gridworld_levels.LEVELS[level]
    world = gridworld.MovingGridWorld if levels.moving else gridworld.GridWorld
    return world(levels.sample, gridworld.OBSERVATIONS[observation])


_OURS: dict[str, Callable[..., Any]] = {
    **{f"gridworld-{name}": partial(_grid, name) for name in gridworld_levels.LEVELS},
    "maze-25": partial(maze.Maze, maze_levels.uniform(25)),
    "maze-60": partial(maze.Maze, maze_levels.uniform(60)),
    "maze-perfect": partial(maze.Maze, maze_levels.perfect()),
    "chain-short": chain.short,
    "chain-short-noisy": chain.short_noisy,
    "chain-long": chain.long,
    "chain-long-noisy": chain.long_noisy,
    "chain-distracted": chain.distracted,
    "garnet": tabular.Garnet,
    "bandit-bernoulli": bandit.BernoulliBandit,
    "bandit-gaussian": bandit.GaussianBandit,
    "bandit-contextual": bandit.ContextualBandit,
    "bandit-nonstationary": bandit.NonStationaryBandit,
}
# MNISTBandit downloads its data; it is left out.
_GYMNAX = frozenset(gymnax.registered_envs) - {"MNISTBandit-bsuite"}
# Brax's swimmer passes jnp.clip an argument that JAX no longer takes; it is left out, too.
_BRAX = frozenset(
    {
        "ant",
        "halfcheetah",
        "hopper",
        "humanoid",
        "humanoidstandup",
        "inverted_double_pendulum",
        "inverted_pendulum",
        "pusher",
        "reacher",
        "walker2d",
    }
)


def names() -> tuple[str, ...]:
    """Return every name that `make` knows."""
    return tuple(sorted(_GYMNAX | _BRAX | _OURS.keys()))


def make(name: str, **settings: Any) -> tuple[Any, Any]:
    """Make an environment and its default parameters (its level).

    Args:
        name: one of `names()`.
        settings: what its constructor takes, such as Brax's `backend`, or `observation` ("row",
            "one_hot" or "planes") for the grid-worlds.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    require_known("environment", name, names())
    if name in _GYMNAX:
        return gymnax.make(name, **settings)
    if name in _OURS:
        env = _OURS[name](**settings)
    else:
        from envs.brax_adaptor import BraxEnvironment  # Brax takes seconds to import

        env = BraxEnvironment(name, **settings)
    return env, env.default_params
