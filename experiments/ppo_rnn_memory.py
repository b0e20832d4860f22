"""Recurrent PPO on bsuite's memory chain (Osband et al. 2020): act on what was seen only once.

A bit is shown at the start and asked for `memory_length` steps later: the return is 1 for the
right answer and -1 for the wrong one, so 0 is what a policy without memory gets.

python experiments/ppo_rnn_memory.py --memory-length 5,20
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import ppo_rnn
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """Recurrent PPO on a memory chain of length {memory_length}."""

    memory_length: int = 20
    """Steps between seeing the bit and being asked for it."""
    total_steps: float = 1e6
    """Environment steps per agent."""
    seeds: int = 10
    """Agents per combination of hyperparameters."""
    config: ppo_rnn.Config = ppo_rnn.Config(num_envs=32, num_steps=64, num_minibatches=4)
    """Recurrent PPO's static settings."""
    hypers: ppo_rnn.Hypers = ppo_rnn.Hypers(learning_rate=1e-3)
    """Recurrent PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo_rnn_memory")


def build(settings: Settings) -> Job:
    env, env_params = envs.make("MemoryChain-bsuite")
    env_params = env_params.replace(memory_length=settings.memory_length)
    num_updates = int(settings.total_steps) // settings.config.batch_size
    return Job(ppo_rnn.make(settings.config, env), env_params, num_updates)


if __name__ == "__main__":
    launch(Settings, build)
