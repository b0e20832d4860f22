"""The worlds that drifts are learned in, and the environments that are kept for tests.

A drift that is learned in one environment at one step size fits only that. So drifts are learned in
several worlds at once. All their agents are networks. The length of a life, the step size and the
discount are drawn anew for every pair of candidates. The number of epochs is static, so it differs
from world to world instead.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from algos import lpo
from algos.rules.worlds import MakeEnv, levels_of, sample_life, vary
from purejaxrl.meta.worlds import World
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.options import updates_for
from purejaxrl.validation import is_count, require

TRAINING = (
    "CartPole-v1", "Acrobot-v1", "Catch-bsuite", "random-mdp-features", "random-hold",
    "gridworld-small", "SpaceInvaders-MinAtar",
)  # fmt: skip
"""The environments that drifts are learned in."""

COSTLY = ("gridworld-small", "SpaceInvaders-MinAtar")
"""Environments with hundreds of inputs, where a step of training costs four to eight times as much
as elsewhere; they get half as many pairs of candidates as the others."""

HELD_OUT = (
    "Breakout-MinAtar", "Freeway-MinAtar", "Asterix-MinAtar", "Seaquest-MinAtar", "FourRooms-misc",
    "MountainCar-v0", "DeepSea-bsuite",
    "gridworld-mazes", "maze-25", "maze-60", "maze-perfect", "MetaMaze-misc",
    "Pendulum-v1", "MountainCarContinuous-v0", "PointRobot-misc", "Reacher-misc", "Swimmer-misc",
)  # fmt: skip
"""Environments that no drift is trained on. All mazes are among them, and all environments with
continuous actions; so Brax's are held out too."""

EPOCHS = (4, 8, 2)
"""Passes over the experience of an update: the worlds take these numbers in turn."""


@dataclass(frozen=True)
class Lives:
    """What differs from life to life. Ranges are `(least, most)`, and drawn log-uniformly."""

    total_steps: tuple[float, float] = (2e4, 5e4)
    """Environment steps."""
    rates: tuple[float, float] = (3e-4, 2e-2)
    """Step sizes at the start of a life; they fall to 0."""
    horizons: tuple[float, float] = (33.0, 200.0)
    """Effective horizons 1 / (1 - γ): by default, γ is between 0.97 and 0.995."""

    def __post_init__(self):
        for name, lowest in (("rates", 0.0), ("horizons", 1.0)):
            least, most = getattr(self, name)
            valid = lowest < least <= most < float("inf")
            require(valid, self, name, f"two finite numbers > {lowest:g}, the smaller one first")


def make_worlds(
    agent: lpo.Config,
    make_env: MakeEnv,
    names: Sequence[str] = TRAINING,
    epochs: Sequence[int] = EPOCHS,
    lives: Lives = Lives(),
) -> list[World]:
    """Make worlds of agents that learn by one drift.

    Args:
        agent: static settings of the agents and of the drift; `num_epochs` is not used.
        make_env: makes environments by name.
        names: the environments' names, which are also the worlds'.
        epochs: passes over the experience of an update; the worlds take these numbers in turn.
        lives: what differs from life to life.

    Raises:
        ValueError: if there is no environment of a name, or a number of epochs or the length of a
            life is not valid.
    """
    if not epochs or not all(map(is_count, epochs)):
        raise ValueError(f"epochs: {epochs} is not valid; it must be one or more integers >= 1")
    least, most = (updates_for(steps, agent.batch_size) for steps in lives.total_steps)
    if least > most:
        raise ValueError(
            f"total_steps: {lives.total_steps} is not valid; the smaller one must come first"
        )
    shares = [1 if name in COSTLY else 2 for name in names]
    worlds = []
    for i, name in enumerate(names):
        env, env_params = make_env(name)
        env = for_network(env)
        config = dataclasses.replace(agent, num_epochs=epochs[i % len(epochs)])
        worlds.append(
            World(
                name,
                lpo.make(config, env),
                env,
                levels_of(env, env_params),
                partial(sample_life, (least, most)),
                vary=partial(vary, lives.rates, horizons=lives.horizons),
                share=shares[i] // math.gcd(*shares),
            )
        )
    return worlds
