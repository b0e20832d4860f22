r"""SAC on any environment with vectors as observations; `python -m envs` lists the environments.

python experiments/sac.py
python experiments/sac.py --env CartPole-v1                       # discrete actions
python experiments/sac.py --env hopper --backend spring --seeds 5
python experiments/sac.py --hypers.target-entropy=-0.5,-1,-2 --seeds 4
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, replace
from typing import Any, Literal

import envs
from algos import sac
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.parts.networks import is_discrete
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions

SHORT_UPDATES = RunOptions(chunk=256, log_every=32, checkpoint_every=32)
"""Updates are short: a call of the device makes many, and a row of metrics averages many."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and where."""

    seeds: int = 10
    """Agents per combination of hyperparameters; their seeds count up from `first_seed`."""
    env: str = "Pendulum-v1"
    """Environment; the other defaults depend on it."""
    backend: Literal["spring", "positional", "generalized", "mjx"] = "spring"
    """Brax's physics; returns of different backends cannot be compared."""
    total_steps: float = 5e4
    """Environment steps per agent, the warm-up included."""
    agent: sac.Config = sac.Config()
    """SAC's static settings."""
    hypers: sac.Hypers = sac.Hypers()
    """SAC's hyperparameters."""
    run: RunFlags = replace(SHORT_UPDATES, out="results/sac")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"SAC on {self.env}"

    @classmethod
    def recommended(cls, env: str) -> "Settings":
        """Return the settings that suit an environment.

        Raises:
            ValueError: for an unknown environment, with a suggestion.
        """
        found = envs.look_up(env, RECOMMENDED, None)
        if found is None:
            found = DISCRETE if is_discrete(envs.make(env)[0]) else Settings()
        return replace(found, env=env, run=replace(SHORT_UPDATES, out=f"results/sac/{env}"))


DISCRETE = Settings(total_steps=5e5, hypers=sac.DiscreteHypers())

RECOMMENDED = {
    "Pendulum-v1": Settings(
        agent=sac.Config(capacity=50_000, hidden=(64, 64)),
        hypers=sac.Hypers(actor_rate=1e-3, critic_rate=1e-3, alpha_rate=1e-3),
    ),
    "MountainCarContinuous-v0": Settings(total_steps=1e5),
    "Brax": Settings(
        total_steps=5e5,
        seeds=5,
        agent=sac.Config(
            num_envs=32,
            capacity=499_968,
            warmup_steps=8_192,
            num_batches=16,
            normalize_obs=True,
        ),
    ),
}
"""Settings by environment or family of environments. The rest have `DISCRETE` where actions are
discrete, and else `Settings()`."""


def make_env(settings: Settings) -> tuple[Any, Any]:
    """Make the environment, wrapped as far as the torso needs it, and its default level."""
    of_family = {"Brax": {"backend": settings.backend}}
    env, env_params = envs.make(settings.env, **envs.look_up(settings.env, of_family, {}))
    return for_network(env, images=settings.agent.torso == "cnn"), env_params


def build(settings: Settings) -> Job:
    env, env_params = make_env(settings)
    agent = settings.agent
    num_updates = updates_for(settings.total_steps, agent.steps_per_update, agent.warmup_steps)
    return Job(sac.make(agent, env), env_params, num_updates, env)


if __name__ == "__main__":
    launch(Settings, build)
