"""PPO on the MinAtar games (Young & Tian 2019), with PureJaxRL's hyperparameters.

python experiments/ppo_minatar.py --env Breakout-MinAtar,Asterix-MinAtar --total-steps 1e7
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from typing import Literal

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """PPO on {env}."""

    env: Literal[
        "Breakout-MinAtar",
        "Asterix-MinAtar",
        "Freeway-MinAtar",
        "Seaquest-MinAtar",
        "SpaceInvaders-MinAtar",
    ] = "Breakout-MinAtar"
    """The game."""
    total_steps: float = 1e7
    """Environment steps per agent."""
    seeds: int = 10
    """Agents per combination of hyperparameters."""
    config: ppo.Config = ppo.Config(num_envs=64, num_minibatches=8, activation="relu")
    """PPO's static settings; `--config.torso cnn --config.hidden 128` for the convolutional one."""
    hypers: ppo.Hypers = ppo.Hypers(learning_rate=5e-3)
    """PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo_minatar")


def build(settings: Settings) -> Job:
    env, env_params = envs.make(settings.env)
    if settings.config.torso == "mlp":
        env = FlattenObservation(env)
    num_updates = int(settings.total_steps) // settings.config.batch_size
    return Job(ppo.make(settings.config, env), env_params, num_updates)


if __name__ == "__main__":
    launch(Settings, build)
