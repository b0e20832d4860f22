r"""LPO: evolve the drift function, which takes the place of PPO's clip (Lu et al. 2022).

`--drift ta_lpo` evolves one that changes over the life of an agent (Jackson et al. 2024).

python experiments/lpo_meta_train.py                           # seven worlds; two cores
python experiments/lpo_meta_train.py --drift ta_lpo --out results/ta_lpo_meta_train
python experiments/lpo_meta_train.py --worlds CartPole-v1 --agent.drift-clip inf \
    --lives.total-steps 5e4 5e4 --lives.rates 1e-2 1e-2        # one world, from no clip at all
python experiments/lpo_meta_train.py --learner.group 4 --agent.num-envs 64 \
    --agent.num-steps 128 --lives.total-steps 1e6 1e7          # for an accelerator

A drift starts as PPO's clip. It is learned in many worlds, at step sizes, discounts and lengths of
life that are drawn anew for every pair of candidates (algos/rules/drift_worlds.py). Every
`--eval-every` generations it is compared with its start, on lives that are always the same; the
best one is written to OUT/drift-SEED.npz. Its share of lives that end better is an overestimate,
because it is the best of several drifts.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import asdict, dataclass, replace
from functools import partial

import jax

import envs
from algos import lpo, ta_lpo
from algos.rules import save_population
from algos.rules.drift_worlds import EPOCHS, TRAINING, Lives, make_worlds
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.meta import evolution
from purejaxrl.meta.validation import against
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count, require_known

DRIFTS = {"lpo": lpo.Config, "ta_lpo": ta_lpo.Config}


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of LPO's evolution."""

    drift: str = "lpo"
    """Kind of drift: lpo, or ta_lpo, which reads the agent's age."""
    worlds: tuple[str, ...] = TRAINING
    """Environments that agents live in."""
    epochs: tuple[int, ...] = EPOCHS
    """Passes over the experience of an update: the worlds take these numbers in turn."""
    lives: Lives = Lives()
    """What differs from life to life."""
    generations: int = 100
    """Steps of the evolution."""
    validation_lives: int = 192
    """Lives in which a drift is compared with its start."""
    seeds: int = 6
    """Drifts to learn, one after the other; their seeds count up from `first_seed`."""
    learner: evolution.Config = evolution.Config(num_pairs=24, max_steps=1000)
    """Static settings of the evolution."""
    agent: lpo.Config = lpo.Config(num_envs=16, num_steps=64, drift_width=8)
    """Static settings of the agents and of the drift; the worlds have their own `num_epochs`."""
    hypers: evolution.Hypers = evolution.Hypers(
        agent=lpo.Hypers(), learning_rate=0.01, decay=0.98, std=0.03
    )
    """The evolution's hyperparameters."""
    run: RunFlags = RunOptions(out="results/lpo_meta_train", chunk=1, eval_every=50)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.drift} evolved in {', '.join(self.worlds)}"

    @property
    def drift_config(self) -> lpo.Config:
        """The static settings of the agents, of the kind of drift that is asked for."""
        return DRIFTS[self.drift](**asdict(self.agent))


def build(settings: Settings) -> Job:
    require_count(settings, "generations", "validation_lives")
    require_known("drift", settings.drift, DRIFTS)
    agent = settings.drift_config
    worlds = make_worlds(agent, envs.make, settings.worlds, settings.epochs, settings.lives)
    begin, insert = partial(lpo.init_drift, config=agent), lpo.with_drift
    learner = evolution.make(settings.learner, worlds, init_theta=begin, insert=insert)
    config = replace(settings.learner, num_pairs=settings.validation_lives)
    start = begin(jax.random.key(0))  # whatever the key, it is the clip
    hypers = evolution.Hypers(agent=settings.hypers.agent)
    evaluator = against(start, config, worlds, insert, hypers)
    return Job(learner, (), settings.generations, evaluator=evaluator, reads=("agent",))


if __name__ == "__main__":
    launch(Settings, build, save=lambda one: save_population(one.result, one.settings.drift_config))
