"""PPO on Brax's continuous control, with PureJaxRL's hyperparameters.

python experiments/ppo_brax.py --env ant,hopper --seeds 4

The defaults are for an accelerator. What two CPU cores carry in minutes:

python experiments/ppo_brax.py --env inverted_pendulum --config.num-envs 16 \\
    --config.num-steps 128 --config.num-minibatches 8 --config.hidden 64 64 \\
    --hypers.learning-rate 1e-3 --hypers.learning-rate-end 0 --hypers.gamma 0.97 --total-steps 2e6
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from typing import Literal

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """PPO on Brax's {env} ({backend} backend)."""

    env: Literal[
        "ant", "halfcheetah", "hopper", "walker2d", "humanoid", "inverted_pendulum", "reacher"
    ] = "ant"
    """The task."""
    backend: Literal["spring", "positional", "generalized", "mjx"] = "spring"
    """Brax's physics; returns of different backends cannot be compared."""
    total_steps: float = 5e7
    """Environment steps per agent."""
    seeds: int = 10
    """Agents per combination of hyperparameters."""
    config: ppo.Config = ppo.Config(
        num_envs=2048,
        num_steps=10,
        num_minibatches=32,
        hidden=(256, 256),
        normalize_obs=True,
        normalize_reward=True,
    )
    """PPO's static settings."""
    hypers: ppo.Hypers = ppo.Hypers(learning_rate=3e-4, learning_rate_end=1.0, entropy_coef=0.0)
    """PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo_brax")


def build(settings: Settings) -> Job:
    env, env_params = envs.make(settings.env, backend=settings.backend)
    num_updates = int(settings.total_steps) // settings.config.batch_size
    return Job(ppo.make(settings.config, env), env_params, num_updates)


if __name__ == "__main__":
    launch(Settings, build)
