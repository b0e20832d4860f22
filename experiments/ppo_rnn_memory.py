"""Recurrent PPO on bsuite's memory chain (Osband et al. 2020): remember a bit seen only once.

The bit is shown at the start and asked for `memory_length` steps later. The return is 1 for the
right answer and -1 for the wrong one, so a policy without memory gets 0 on average.

python experiments/ppo_rnn_memory.py --memory-length 5,20
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import ppo_rnn
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require

LONGEST = 998
"""Longer chains are cut by the environment's limit of 1000 steps before the bit is asked for."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and where."""

    memory_length: int = 20
    """Steps between seeing the bit and being asked for it."""
    total_steps: float = 1e6
    """Environment steps per agent."""
    seeds: int = 10
    """Agents per combination of hyperparameters."""
    agent: ppo_rnn.Config = ppo_rnn.Config(num_envs=32, num_steps=64, num_minibatches=4)
    """Recurrent PPO's static settings."""
    hypers: ppo_rnn.Hypers = ppo_rnn.Hypers(learning_rate=1e-3)
    """Recurrent PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo_rnn_memory")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"Recurrent PPO on a memory chain of length {self.memory_length}"

    def __post_init__(self):
        super().__post_init__()
        valid = 1 <= self.memory_length <= LONGEST
        require(valid, self, "memory_length", f"an integer from 1 to {LONGEST}")


def build(settings: Settings) -> Job:
    env, env_params = envs.make("MemoryChain-bsuite")
    env_params = env_params.replace(memory_length=settings.memory_length)
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    return Job(ppo_rnn.make(settings.agent, env), env_params, num_updates, env)


if __name__ == "__main__":
    launch(Settings, build)
