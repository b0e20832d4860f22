r"""LPO: evolve the drift function, which takes the place of PPO's clip (Lu et al. 2022).

`--drift ta_lpo` evolves one that changes over the life of an agent (Jackson et al. 2024).

python experiments/lpo_meta_train.py                           # CartPole; two cores
python experiments/lpo_meta_train.py --drift ta_lpo --out results/ta_lpo_meta_train
python experiments/lpo_meta_train.py --agent.drift-clip 0.2    # start from PPO's clip
python experiments/lpo_meta_train.py --env SpaceInvaders-MinAtar --total-steps 1e7 \
    --learner.group 8 --agent.num-envs 64 --agent.num-steps 128 \
    --agent.num-minibatches 8                                  # for an accelerator

The drifts are written to OUT/drift-SEED.npz.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import math
from dataclasses import asdict, dataclass
from functools import partial

import jax.numpy as jnp

import envs
from algos import lpo, ta_lpo
from algos.rules import save_population
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.meta import evolution
from purejaxrl.meta.worlds import World
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions
from purejaxrl.ued.curriculum import uniform
from purejaxrl.validation import require_count, require_known

DRIFTS = {"lpo": lpo.Config, "ta_lpo": ta_lpo.Config}


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of LPO's evolution."""

    drift: str = "lpo"
    """Kind of drift: lpo, or ta_lpo, which reads the agent's age."""
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
        return f"{self.drift} evolved on {self.env}"

    @property
    def drift_config(self) -> lpo.Config:
        """The static settings of the agents, of the kind of drift that is asked for."""
        return DRIFTS[self.drift](**asdict(self.agent))


def build(settings: Settings) -> Job:
    require_count(settings, "generations")
    require_known("drift", settings.drift, DRIFTS)
    agent = settings.drift_config
    env, env_params = envs.make(settings.env)
    env = for_network(env)
    lifetime = jnp.int32(updates_for(settings.total_steps, agent.batch_size))
    world = World(
        settings.env,
        lpo.make(agent, env),
        env,
        uniform(lambda key: env_params),
        sample_lifetime=lambda key: lifetime,
    )
    learner = evolution.make(
        settings.learner,
        world,
        init_theta=partial(lpo.init_drift, config=agent),
        insert=lpo.with_drift,
    )
    return Job(learner, (), settings.generations)


if __name__ == "__main__":
    launch(Settings, build, save=lambda one: save_population(one.result, one.settings.drift_config))
