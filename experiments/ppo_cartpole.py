"""PPO on CartPole, with PureJaxRL's hyperparameters.

python experiments/ppo_cartpole.py --seeds 64 --hypers.learning-rate 1e-4,3e-4,1e-3
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """PPO on CartPole."""

    total_steps: float = 5e5
    """Environment steps per agent."""
    config: ppo.Config = ppo.Config()
    """PPO's static settings."""
    hypers: ppo.Hypers = ppo.Hypers()
    """PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo_cartpole")


def build(settings: Settings) -> Job:
    env, env_params = envs.make("CartPole-v1")
    num_updates = int(settings.total_steps) // settings.config.batch_size
    return Job(ppo.make(settings.config, env), env_params, num_updates)


if __name__ == "__main__":
    launch(Settings, build)
