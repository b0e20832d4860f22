r"""PQN on any environment with discrete actions; `python -m envs` lists the environments.

python experiments/pqn.py
python experiments/pqn.py --env Acrobot-v1 --seeds 10
python experiments/pqn.py --env Breakout-MinAtar,Asterix-MinAtar --total-steps 1e7
python experiments/pqn.py --hypers.learning-rate 1e-4,3e-4,1e-3 --hypers.q-lambda 0,0.65,0.95
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, replace
from typing import Any

import envs
from algos import pqn
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and where."""

    env: str = "CartPole-v1"
    """Environment; the other defaults depend on it."""
    total_steps: float = 5e5
    """Environment steps per agent."""
    agent: pqn.Config = pqn.Config()
    """PQN's static settings."""
    hypers: pqn.Hypers = pqn.Hypers()
    """PQN's hyperparameters."""
    run: RunFlags = RunOptions(out="results/pqn")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"PQN on {self.env}"

    @classmethod
    def recommended(cls, env: str) -> "Settings":
        """Return the settings that suit an environment.

        Raises:
            ValueError: for an unknown environment, with a suggestion.
        """
        found = envs.look_up(env, RECOMMENDED, cls())
        return replace(found, env=env, run=RunOptions(out=f"results/pqn/{env}"))


RECOMMENDED = {
    "MinAtar": Settings(
        total_steps=1e7,
        seeds=10,
        agent=pqn.Config(
            num_envs=128,
            num_steps=32,
            num_epochs=2,
            num_minibatches=32,
            torso="cnn",
            hidden=(128,),
        ),
        hypers=pqn.Hypers(
            learning_rate=5e-4,
            q_lambda=0.65,
            epsilon_end=0.05,
            exploration=0.1,
            reward_scale=1.0,
        ),
    ),
}
"""Settings by environment or family of environments; `Settings()` for the rest."""


def make_env(settings: Settings) -> tuple[Any, Any]:
    """Make the environment, wrapped as far as the torso needs it, and its default level."""
    env, env_params = envs.make(settings.env)
    images = settings.agent.torso == "cnn"
    return for_network(env, images=images, tables=True), env_params


def build(settings: Settings) -> Job:
    env, env_params = make_env(settings)
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    return Job(pqn.make(settings.agent, env), env_params, num_updates, env)


if __name__ == "__main__":
    launch(Settings, build)
