"""LPO: evolve the function that says what it costs PPO to leave its old policy (Lu et al. 2022).

python experiments/lpo_meta_train.py                           # CartPole; two cores
python experiments/lpo_meta_train.py --agent.drift-clip 0.2    # from PPO's clip, not from none
python experiments/lpo_meta_train.py --env SpaceInvaders-MinAtar --total-steps 1e7 \
    --config.batch-size 8 --agent.num-envs 64 --agent.num-steps 128 \
    --agent.num-minibatches 8                                  # for an accelerator

The drifts are written to OUT/drift-SEED.npz.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import envs
from algos import lpo
from algos.rules import save_rule
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch
from purejaxrl.meta import evolution
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(Experiment):
    """LPO evolved on {env}."""

    env: str = "CartPole-v1"
    """Environment of every life."""
    total_steps: float = 5e4
    """Environment steps of a life."""
    generations: int = 100
    """Steps of the evolution."""
    seeds: int = 3
    """Drifts to learn, seeded 0, 1, 2, …, one after the other."""
    config: evolution.Config = evolution.Config(num_pairs=16)
    """The evolution's static settings."""
    agent: lpo.Config = lpo.Config(num_envs=16, num_steps=64, drift_clip=math.inf)
    """The agents' and the drift's static settings; without a clip there is nothing at first."""
    hypers: evolution.Hypers = evolution.Hypers(agent=lpo.Hypers(learning_rate=1e-2), std=0.03)
    """The evolution's hyperparameters."""
    run: RunFlags = RunOptions(out="results/lpo_meta_train", chunk=4)


def build(settings: Any) -> Job:
    """Also for drifts that know of time: what they are is their config's to say."""
    env, env_params = envs.make(settings.env)
    if len(env.observation_space(env_params).shape) > 1:
        env = FlattenObservation(env)
    lifetime = jnp.int32(int(settings.total_steps) // settings.agent.batch_size)
    learner = evolution.make(
        settings.config,
        lpo.make(settings.agent, env),
        env,
        init_theta=lambda key: lpo.init_drift(key, settings.agent),
        insert=lpo.with_drift,
        sample_level=lambda key: env_params,
        sample_lifetime=lambda key: lifetime,
    )
    made_of = (*learner.made_of, settings.env, str(lifetime))
    return Job(learner._replace(made_of=made_of), (), settings.generations)


def write(outcome: Outcome) -> None:
    """Save the drifts."""
    settings, _, result = outcome
    for i, row in enumerate(result.population.rows):
        path = Path(result.out) / f"drift-{row['seed']}.npz"
        save_rule(path, settings.agent, result.member(i).params)


if __name__ == "__main__":
    for outcome in launch(Settings, build):
        write(outcome)
