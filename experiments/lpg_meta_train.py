r"""Learned policy gradient: meta-train a rule on grid-worlds by meta-gradient (Oh et al. 2020).

python experiments/lpg_meta_train.py                       # a scale that two cores carry
python experiments/lpg_meta_train.py --learner.num-agents 512 --agent.num-envs 64 \
    --agent.rule-width 256 --agent.optimizer sgd --hypers.agent.learning-rate 40 \
    --hypers.learning-rate 1e-4 --hypers.regularizer.entropy 0.05 \
    --hypers.regularizer.pi-hat 0.005 --meta-steps 5000    # GROOVE's

The rules are written to OUT/rule-SEED.npz; `lpg_meta_test.py --rule FILE` tests one.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import envs
from algos import lpg
from algos.rules import save_rule
from envs.gridworld_levels import LEVELS
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.meta import gradient
from purejaxrl.parts import networks
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions
from purejaxrl.study import compare
from purejaxrl.ued.curriculum import uniform
from purejaxrl.validation import require_count, require_known


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of LPG's meta-training."""

    levels: str = "all_shortlife"
    """Distribution of levels: see envs/gridworld_levels.py."""
    lifetimes: str = ""
    """Distribution of levels from which the lifetimes are taken; `levels` by default."""
    meta_steps: int = 3000
    """Steps of the meta-learner."""
    seeds: int = 3
    """Rules to learn, seeded 0, 1, 2, …, one after the other."""
    learner: gradient.Config = gradient.Config()
    """Static settings of the meta-learner."""
    agent: lpg.Config = lpg.Config(num_envs=16, rule_width=64)
    """Static settings of the agents and of the rule."""
    hypers: gradient.Hypers = gradient.Hypers(
        agent=lpg.Hypers(),
        regularizer=lpg.Regularizer(entropy=0.002, pi_hat=0.0001),
        learning_rate=5e-4,
    )
    """The meta-learner's hyperparameters."""
    run: RunFlags = RunOptions(out="results/lpg_meta_train")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"LPG meta-trained on grid-worlds ({self.levels})"


def build(settings: Settings) -> Job:
    require_count(settings, "meta_steps")
    require_known("levels", settings.levels, LEVELS)
    require_known("lifetimes", settings.lifetimes or settings.levels, LEVELS)
    env, _ = envs.make(f"gridworld-{settings.levels}")
    learner = gradient.make(
        settings.learner,
        lpg.make(settings.agent, env),
        networks.readout(env.observation_space(), None, 1),
        init_theta=partial(lpg.init_rule, config=settings.agent),
        insert=lpg.with_rule,
        curriculum=uniform(env.sample_level),
        sample_lifetime=LEVELS[settings.lifetimes or settings.levels].sample_lifetime,
    )
    return Job(learner, (), settings.meta_steps)


def write(outcome: Outcome) -> list[Path]:
    """Save the rules that did not diverge to OUT/rule-SEED.npz; returns the files."""
    (settings, _, result), paths = outcome, []
    for i, row in enumerate(result.population.rows):
        if not result.alive[i]:
            say(f"seed {row['seed']}: no rule is saved, because its training diverged")
            continue
        paths.append(Path(result.out) / f"rule-{row['seed']}.npz")
        save_rule(paths[-1], settings.agent, result.member(i).params)
    return paths


def learn_rules(job: Job, settings: Any, out: Path) -> list[Path]:
    """Learn a rule for every seed of the settings, as a part of a comparison.

    Killed and started again, it continues; finished, it only writes the rules again.

    Args:
        job: of `build`.
        settings: that it was built of.
        out: the rules are in OUT-DIGEST, see `compare.train`.

    Returns:
        The files of the rules that did not diverge, at least one.

    Raises:
        ValueError: if all diverged.
    """
    population = populate(seeds(settings.seeds), settings.hypers, job.env_params)
    result = compare.train(job.algorithm, population, job.num_updates, out, settings)
    rules = write(Outcome(settings, job, result))
    if not rules:
        raise ValueError(f"{out.name}: all {settings.seeds} rules diverged; lower the step size")
    return rules


if __name__ == "__main__":
    launch(Settings, build, save=write)
