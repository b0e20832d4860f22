"""PPO on Pendulum: continuous actions on two CPU cores in a minute.

python experiments/ppo_pendulum.py
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.parts.wrappers import ScaleAction
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """PPO on Pendulum."""

    total_steps: float = 1e6
    """Environment steps per agent."""
    seeds: int = 10
    """Agents per combination of hyperparameters."""
    config: ppo.Config = ppo.Config(
        num_envs=16, num_epochs=10, num_minibatches=8, normalize_obs=True, normalize_reward=True
    )
    """PPO's static settings."""
    hypers: ppo.Hypers = ppo.Hypers(learning_rate=1e-3, gamma=0.95, entropy_coef=0.0)
    """PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo_pendulum")


def build(settings: Settings) -> Job:
    env, env_params = envs.make("Pendulum-v1")
    num_updates = int(settings.total_steps) // settings.config.batch_size
    return Job(ppo.make(settings.config, ScaleAction(env)), env_params, num_updates)


if __name__ == "__main__":
    launch(Settings, build)
