r"""LPO: evolve the drift function, which takes the place of PPO's clip (Lu et al. 2022).

python experiments/lpo_meta_train.py                           # CartPole; two cores
python experiments/lpo_meta_train.py --agent.drift-clip 0.2    # start from PPO's clip
python experiments/lpo_meta_train.py --env SpaceInvaders-MinAtar --total-steps 1e7 \
    --learner.group 8 --agent.num-envs 64 --agent.num-steps 128 \
    --agent.num-minibatches 8                                  # for an accelerator

The drifts are written to OUT/drift-SEED.npz.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import envs
from algos import lpo
from algos.rules import save_rule
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say, updates_for
from purejaxrl.meta import evolution
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions
from purejaxrl.ued.curriculum import uniform
from purejaxrl.validation import require_count


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of LPO's evolution."""

    env: str = "CartPole-v1"
    """Environment of every life."""
    total_steps: float = 5e4
    """Environment steps of a life."""
    generations: int = 100
    """Steps of the evolution."""
    seeds: int = 3
    """Drifts to learn, seeded 0, 1, 2, …, one after the other."""
    learner: evolution.Config = evolution.Config(num_pairs=16)
    """Static settings of the evolution."""
    agent: lpo.Config = lpo.Config(num_envs=16, num_steps=64, drift_clip=math.inf)
    """Static settings of the agents and of the drift, which is 0 everywhere at first."""
    hypers: evolution.Hypers = evolution.Hypers(agent=lpo.Hypers(learning_rate=1e-2), std=0.03)
    """The evolution's hyperparameters."""
    run: RunFlags = RunOptions(out="results/lpo_meta_train", chunk=4)

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"LPO evolved on {self.env}"


def build(settings: Any) -> Job:
    """Build LPO, or TA-LPO: the config makes the drift."""
    require_count(settings, "generations")
    env, env_params = envs.make(settings.env)
    env = for_network(env)
    lifetime = jnp.int32(updates_for(settings.total_steps, settings.agent.batch_size))
    learner = evolution.make(
        settings.learner,
        lpo.make(settings.agent, env),
        env,
        init_theta=partial(lpo.init_drift, config=settings.agent),
        insert=lpo.with_drift,
        curriculum=uniform(lambda key: env_params),
        sample_lifetime=lambda key: lifetime,
    )
    return Job(learner, (), settings.generations)


def write(outcome: Outcome) -> None:
    """Save the drifts that did not diverge to OUT/drift-SEED.npz."""
    settings, result = outcome.settings, outcome.result
    for i, row in enumerate(result.population.rows):
        if not result.alive[i]:
            say(f"seed {row['seed']}: no drift is saved, because its training diverged")
            continue
        path = Path(result.out) / f"drift-{row['seed']}.npz"
        save_rule(path, settings.agent, result.member(i).params)


if __name__ == "__main__":
    launch(Settings, build, save=write)
