"""Learned policy gradient: meta-train a rule on grid-worlds by meta-gradient (Oh et al. 2020).

python experiments/lpg_meta_train.py                       # a scale that two cores carry
python experiments/lpg_meta_train.py --config.num-agents 512 --agent.num-envs 64 \
    --agent.rule-width 256 --agent.optimizer sgd --hypers.agent.learning-rate 40 \
    --hypers.learning-rate 1e-4 --hypers.regularizer.entropy 0.05 \
    --hypers.regularizer.pi-hat 0.005 --meta-steps 5000    # GROOVE's

The rules are written to OUT/rule-SEED.npz; `lpg_meta_test.py --rule FILE` puts one to the test.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import envs
from algos import lpg
from algos.rules import save_rule
from envs.gridworld_levels import LEVELS
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.meta import gradient
from purejaxrl.parts import networks
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import Result, RunOptions, run
from purejaxrl.ued.curriculum import uniform
from purejaxrl.validation import require_known


@dataclass(frozen=True)
class Settings(Experiment):
    """LPG meta-trained on grid-worlds ({levels})."""

    levels: str = "all_shortlife"
    """Distribution of levels: see envs/gridworld_levels.py."""
    lifetimes: str = ""
    """Distribution whose lifetimes to take; that of the levels by default."""
    meta_steps: int = 3000
    """Steps of the meta-learner."""
    seeds: int = 3
    """Rules to learn, seeded 0, 1, 2, …, one after the other."""
    config: gradient.Config = gradient.Config()
    """The meta-learner's static settings."""
    agent: lpg.Config = lpg.Config(num_envs=16, rule_width=64)
    """The agents' and the rule's static settings."""
    hypers: gradient.Hypers = gradient.Hypers(
        agent=lpg.Hypers(),
        regularizer=lpg.Regularizer(entropy=0.002, pi_hat=0.0001),
        learning_rate=5e-4,
    )
    """The meta-learner's hyperparameters."""
    run: RunFlags = RunOptions(out="results/lpg_meta_train")


def build(settings: Settings) -> Job:
    require_known("levels", settings.levels, LEVELS)
    require_known("lifetimes", settings.lifetimes or settings.levels, LEVELS)
    env, _ = envs.make(f"gridworld-{settings.levels}")
    learner = gradient.make(
        settings.config,
        lpg.make(settings.agent, env),
        networks.readout(env.observation_space(), None, 1),
        init_theta=lambda key: lpg.init_rule(key, settings.agent),
        insert=lpg.with_rule,
        curriculum=uniform(env.sample_level),
        sample_lifetime=LEVELS[settings.lifetimes or settings.levels].sample_lifetime,
    )
    return Job(learner, (), settings.meta_steps)


def write(result: Result, agent: lpg.Config) -> list[Path]:
    """Save the rules."""
    paths = [result.out / f"rule-{row['seed']}.npz" for row in result.population.rows]
    for i, path in enumerate(paths):
        save_rule(path, agent, result.member(i).params)
    return paths


def learn_rules(job: Job, settings: Any, agent: lpg.Config, out: Path) -> list[Path]:
    """Learn a rule for every seed of the settings, as a part of a comparison.

    Killed, it goes on where it was; finished, it only writes the rules again.
    """
    population = populate(seeds(settings.seeds), settings.hypers, job.env_params)
    options = RunOptions(str(out), resume=(out / "run.json").exists())
    return write(run(job.algorithm, population, job.num_updates, options, settings=settings), agent)


if __name__ == "__main__":
    for settings, _, result in launch(Settings, build):
        write(result, settings.agent)
