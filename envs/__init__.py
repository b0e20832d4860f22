"""Environments by name: ours, gymnax's and Brax's, all on the gymnax 1.x interface.

The `params` of our environments are a *level*: a traced pytree that `env.sample_level(key)` draws,
so one compiled program trains agents on thousands of levels.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import gymnax

from envs import (
    bandit,
    chain,
    gridworld,
    gridworld_levels,
    maze,
    maze_levels,
    random_control,
    random_mdp,
    rendering,
    tabular,
    token_tasks,
    variants,
)
from envs.random_mdp_kinds import EXPLORATION
from purejaxrl.validation import require_known


def _grid(level: str, observation: str = "row") -> gridworld.GridWorld:
    require_known("observation", observation, gridworld.OBSERVATIONS)
    levels = gridworld_levels.LEVELS[level]
    world = gridworld.MovingGridWorld if levels.moving else gridworld.GridWorld
    return world(levels.sample, gridworld.OBSERVATIONS[observation])


def _brax(task: str, backend: str = "spring", **settings: Any) -> Any:
    from envs.brax_adaptor import BraxEnvironment  # Brax takes seconds to import

    return BraxEnvironment(task, backend, **settings)


Factory = Callable[..., Any]
T = TypeVar("T")


def _gymnax(suffix: str) -> dict[str, Factory]:
    """Find gymnax's environments whose names end in `suffix`."""
    names = [name for name in gymnax.registered_envs if name.endswith(suffix)]
    return {name: rendering.DRAWN.get(name, partial(_from_gymnax, name)) for name in names}


def _from_gymnax(name: str, **settings: Any) -> Any:
    return gymnax.make(name, **settings)[0]


FAMILIES: dict[str, dict[str, Factory]] = {
    "Grid-worlds": {f"gridworld-{name}": partial(_grid, name) for name in gridworld_levels.LEVELS},
    "Mazes": {
        "maze-25": partial(maze.Maze, maze_levels.uniform(25)),
        "maze-60": partial(maze.Maze, maze_levels.uniform(60)),
        "maze-perfect": partial(maze.Maze, maze_levels.perfect()),
    },
    "Chains and random MDPs": {
        "chain-short": chain.short,
        "chain-short-noisy": chain.short_noisy,
        "chain-long": chain.long,
        "chain-long-noisy": chain.long_noisy,
        "chain-distracted": chain.distracted,
        "garnet": tabular.Garnet,
        "random-mdp": random_mdp.RandomMDP,
        "random-mdp-features": partial(random_mdp.RandomMDP, features=8),
        "random-mdp-exploration": partial(random_mdp.RandomMDP, kinds=EXPLORATION),
        "random-mdp-exploration-features": partial(
            random_mdp.RandomMDP, features=8, kinds=EXPLORATION
        ),
    },
    "Random control": {
        "random-hold": random_control.Hold,
        "random-reach": random_control.Reach,
        "CartPole-variants": variants.CartPoleVariants,
        "Acrobot-variants": variants.AcrobotVariants,
    },
    "Bandits": {
        "bandit-bernoulli": bandit.BernoulliBandit,
        "bandit-gaussian": bandit.GaussianBandit,
        "bandit-contextual": bandit.ContextualBandit,
        "bandit-nonstationary": bandit.NonStationaryBandit,
    },
    "Token tasks": {
        "token-arithmetic": token_tasks.arithmetic,
        "token-copy": partial(token_tasks.rearrange, "copy"),
        "token-countdown": token_tasks.countdown,
        "token-reverse": partial(token_tasks.rearrange, "reverse"),
        "token-sort": partial(token_tasks.rearrange, "sort"),
    },
    "Classic control": _gymnax("-v0") | _gymnax("-v1"),
    "MinAtar": _gymnax("-MinAtar"),
    # MNISTBandit is left out because it downloads its data.
    "bsuite": {k: v for k, v in _gymnax("-bsuite").items() if not k.startswith("MNIST")},
    "Miscellaneous": _gymnax("-misc"),
    # Brax's swimmer is left out because it passes jnp.clip an argument that JAX no longer takes.
    "Brax": {
        name: partial(_brax, name)
        for name in (
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
        )
    },
}
"""How to make every environment, by family and name."""


def names() -> tuple[str, ...]:
    """Return every name that `make` knows, sorted."""
    return tuple(sorted(name for members in FAMILIES.values() for name in members))


def family(name: str) -> str:
    """Return the family of an environment, a key of `FAMILIES`.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    require_known("environment", name, names())
    return next(family for family, members in FAMILIES.items() if name in members)


def look_up(name: str, table: Mapping[str, T], default: T) -> T:
    """Return what a table has for an environment, or else for its family, or else the default.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    return table.get(name, table.get(family(name), default))


def make(name: str, **settings: Any) -> tuple[Any, Any]:
    """Make an environment and its default parameters (its level).

    Args:
        name: one of `names()`.
        settings: arguments of its constructor, such as Brax's `backend`, or the grid-worlds'
            `observation` ("row", "one_hot" or "planes").

    Raises:
        ValueError: for an unknown name, with a suggestion, or a setting that it does not take.
    """
    factory = FAMILIES[family(name)][name]
    try:
        env = factory(**settings)
    except TypeError as error:
        valid = ", ".join(_settings_of(factory)) or "none"
        raise ValueError(
            f"environment {name!r}: settings {settings} are not valid ({error}); it takes: {valid}"
        ) from error
    return env, env.default_params


def _settings_of(factory: Factory) -> list[str]:
    maker = type(factory()) if getattr(factory, "func", None) is _from_gymnax else factory
    return [p.name for p in inspect.signature(maker).parameters.values() if p.kind != p.VAR_KEYWORD]
