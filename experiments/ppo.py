r"""PPO on any environment, with settings that suit it; `python -m envs` lists the environments.

python experiments/ppo.py
python experiments/ppo.py --env Breakout-MinAtar,Asterix-MinAtar --total-steps 1e7
python experiments/ppo.py --env Breakout-MinAtar --agent.torso cnn --agent.hidden 128
python experiments/ppo.py --env CartPole-v1 --seeds 64 --hypers.learning-rate 1e-4,3e-4,1e-3

Brax's settings are for an accelerator. These take two CPU cores a few minutes:

python experiments/ppo.py --env inverted_pendulum --agent.num-envs 16 --agent.num-steps 128 \
    --agent.num-minibatches 8 --agent.hidden 64 64 --hypers.learning-rate 1e-3 \
    --hypers.final-rate-fraction 0 --hypers.gamma 0.97 --total-steps 2e6
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, replace
from typing import Any, Literal

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and where."""

    env: str = "CartPole-v1"
    """Environment; the other defaults depend on it."""
    backend: Literal["spring", "positional", "generalized", "mjx"] = "spring"
    """Brax's physics; returns of different backends cannot be compared."""
    total_steps: float = 5e5
    """Environment steps per agent."""
    agent: ppo.Config = ppo.Config()
    """PPO's static settings."""
    hypers: ppo.Hypers = ppo.Hypers()
    """PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ppo")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"PPO on {self.env}"

    @classmethod
    def recommended(cls, env: str) -> "Settings":
        """Return the settings that suit an environment.

        Raises:
            ValueError: for an unknown environment, with a suggestion.
        """
        found = envs.look_up(env, RECOMMENDED, cls())
        return replace(found, env=env, run=RunOptions(out=f"results/ppo/{env}"))


RECOMMENDED = {
    "Pendulum-v1": Settings(
        total_steps=1e6,
        seeds=10,
        agent=ppo.Config(
            num_envs=16, num_epochs=10, num_minibatches=8, normalize_obs=True, normalize_reward=True
        ),
        hypers=ppo.Hypers(learning_rate=1e-3, gamma=0.95, entropy_coef=0.0),
    ),
    "MinAtar": Settings(
        total_steps=1e7,
        seeds=10,
        agent=ppo.Config(num_envs=64, num_minibatches=8, activation="relu"),
        hypers=ppo.Hypers(learning_rate=5e-3),
    ),
    "Brax": Settings(
        total_steps=5e7,
        seeds=10,
        agent=ppo.Config(
            num_envs=2048,
            num_steps=10,
            num_minibatches=32,
            hidden=(256, 256),
            normalize_obs=True,
            normalize_reward=True,
        ),
        hypers=ppo.Hypers(learning_rate=3e-4, final_rate_fraction=1.0, entropy_coef=0.0),
    ),
}
"""Settings by environment or family of environments; `Settings()` for the rest."""


def make_env(settings: Settings) -> tuple[Any, Any]:
    """Make the environment, wrapped as far as the torso needs it, and its default level."""
    of_family = {
        "Brax": {"backend": settings.backend},
        "Grid-worlds": {"observation": "planes"},  # complete, even where objects move
    }
    env, env_params = envs.make(settings.env, **envs.look_up(settings.env, of_family, {}))
    return for_network(env, images=settings.agent.torso == "cnn"), env_params


def build(settings: Settings) -> Job:
    env, env_params = make_env(settings)
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    return Job(ppo.make(settings.agent, env), env_params, num_updates, env)


if __name__ == "__main__":
    launch(Settings, build)
