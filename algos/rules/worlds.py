"""The worlds that general rules are learned in, and the environments that are kept for tests.

A rule learned on one kind of problem fails on others. So rules are learned in several worlds at
once, with tables and with networks, and with step sizes, discounts and lengths of life that are
drawn anew for every life. Whole families are never trained on: see `HELD_OUT`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from algos import lpg, meta_lpg
from purejaxrl.meta.worlds import World
from purejaxrl.parts.distributions import log_uniform, log_uniform_int
from purejaxrl.parts.wrappers import for_network
from purejaxrl.ued.curriculum import Curriculum, uniform
from purejaxrl.validation import require, require_counts, require_known

HELD_OUT = (
    "CartPole-v1", "CartPole-variants", "Acrobot-v1", "Acrobot-variants", "MountainCar-v0",
    "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
    "gridworld-mazes", "maze-25", "maze-60", "maze-perfect", "MetaMaze-misc",
    "garnet", "chain-long", "chain-long-noisy", "bandit-contextual",
    "DeepSea-bsuite", "DiscountingChain-bsuite", "MemoryChain-bsuite", "UmbrellaChain-bsuite",
    "FourRooms-misc",
)  # fmt: skip
"""Environments of families that no world belongs to: classic control, MinAtar, mazes, Garnets, long
chains, contextual bandits, and five single ones. Some worlds resemble them: `random-reach` has the
hill of MountainCar, a kind of random MDP is a bandit, and the locks of `EXPLORATION` ask for one
long sequence of right actions, as DeepSea does."""

MakeEnv = Callable[[str], tuple[Any, Any]]
"""`(name) -> (environment, env_params)`, as `envs.make`."""


@dataclass(frozen=True)
class WorldSettings:
    """How agents live in an environment. Ranges are `(least, most)`, and drawn log-uniformly."""

    env: str
    """The name of the environment, which is also the world's."""
    rates: tuple[float, float]
    """Step sizes."""
    lives: tuple[int, int] = (30, 500)
    """Lengths of a life, in updates."""
    share: int = 1
    """Share of the agents."""

    def __post_init__(self):
        require_counts(self, "lives")
        least, most = self.lives
        require(least <= most, self, "lives", "two integers, the smaller one first")


TABLE_RATES, NETWORK_RATES = (0.01, 0.2), (5e-4, 1e-2)
TRAINING = (
    WorldSettings("gridworld-all_shortlife", TABLE_RATES, share=2),
    WorldSettings("gridworld-all_scaled", TABLE_RATES),
    WorldSettings("chain-short", TABLE_RATES),
    WorldSettings("random-mdp", TABLE_RATES, share=2),
    WorldSettings("random-mdp-features", NETWORK_RATES, share=3),
    WorldSettings("Catch-bsuite", NETWORK_RATES),
    WorldSettings("random-hold", NETWORK_RATES),
    WorldSettings("random-reach", NETWORK_RATES),
)
"""The worlds of the shipped rules."""

EXPLORATION = (
    WorldSettings("random-mdp-exploration", TABLE_RATES, share=2),
    WorldSettings("random-mdp-exploration-features", NETWORK_RATES, share=2),
)
"""Worlds in which random actions hardly ever get the return of the best ones."""

HORIZONS = (20.0, 200.0)
"""Least and greatest effective horizon 1 / (1 - γ) of an agent; log-uniform."""


def named(names: Sequence[str]) -> list[WorldSettings]:
    """Return the worlds of these names, of `TRAINING` and `EXPLORATION`.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    known = {world.env: world for world in TRAINING + EXPLORATION}
    for name in names:
        require_known("world", name, known)
    return [known[name] for name in names]


def vary(
    rates: tuple[float, float],
    key: jax.Array,
    hypers: Any,
    horizons: tuple[float, float] = HORIZONS,
) -> Any:
    """Draw the step size and the discount of one life."""
    rate_key, gamma_key = jax.random.split(key)
    return hypers.replace(
        learning_rate=log_uniform(rate_key, *rates),
        gamma=1 - 1 / log_uniform(gamma_key, *horizons),
    )


def sample_life(lives: tuple[int, int], key: jax.Array) -> jax.Array:
    """Draw the length of a life: int32 []."""
    return log_uniform_int(key, *lives)


def levels_of(env: Any, env_params: Any) -> Curriculum:
    """Draw a new level for every life; where an environment has only one level, return that one."""
    return uniform(getattr(env, "sample_level", partial(_same_level, env_params)))


def _same_level(env_params: Any, key: jax.Array) -> Any:
    return env_params


def make_worlds(
    agent: lpg.Config, make_env: MakeEnv, settings: Sequence[WorldSettings] = TRAINING
) -> list[World]:
    """Make worlds of agents that learn by one rule.

    Args:
        agent: static settings of the agents and of the rule; networks only where observations do
            not index a table.
        make_env: makes environments by name.
        settings: the worlds' settings.
    """
    worlds = []
    for one in settings:
        env, env_params = make_env(one.env)
        env = for_network(env, tables=True)
        worlds.append(
            meta_lpg.world(
                agent,
                env,
                partial(sample_life, one.lives),
                one.env,
                curriculum=levels_of(env, env_params),
                vary=partial(vary, one.rates),
                share=one.share,
            )
        )
    return worlds
