r"""DQN on any environment with discrete actions; `python -m envs` lists the environments.

python experiments/dqn.py
python experiments/dqn.py --env Acrobot-v1 --seeds 10
python experiments/dqn.py --env Breakout-MinAtar,Asterix-MinAtar --seeds 4
python experiments/dqn.py --hypers.learning-rate 1e-4,3e-4,1e-3 --agent.no-double
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, replace
from typing import Any

import envs
from algos import dqn
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions

SHORT_UPDATES = RunOptions(chunk=512, log_every=64, checkpoint_every=32)
"""Updates are short: a call of the device makes many, and a row of metrics averages many."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and where."""

    env: str = "CartPole-v1"
    """Environment; the other defaults depend on it."""
    total_steps: float = 5e5
    """Environment steps per agent, the warm-up included."""
    agent: dqn.Config = dqn.Config()
    """DQN's static settings."""
    hypers: dqn.Hypers = dqn.Hypers()
    """DQN's hyperparameters."""
    run: RunFlags = replace(SHORT_UPDATES, out="results/dqn")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"DQN on {self.env}"

    @classmethod
    def recommended(cls, env: str) -> "Settings":
        """Return the settings that suit an environment.

        Raises:
            ValueError: for an unknown environment, with a suggestion.
        """
        found = envs.look_up(env, RECOMMENDED, cls())
        return replace(found, env=env, run=replace(SHORT_UPDATES, out=f"results/dqn/{env}"))


RECOMMENDED = {
    "MinAtar": Settings(
        total_steps=1e6,
        seeds=10,
        agent=dqn.Config(
            num_envs=8,
            num_steps=4,
            capacity=102_400,
            warmup_steps=5_120,
            batch_size=64,
            num_batches=4,
            target_every=250,
            torso="cnn",
            hidden=(128,),
        ),
        hypers=dqn.Hypers(exploration=0.2),
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
    agent = settings.agent
    num_updates = updates_for(settings.total_steps, agent.steps_per_update, agent.warmup_steps)
    return Job(dqn.make(agent, env), env_params, num_updates, env)


if __name__ == "__main__":
    launch(Settings, build)
