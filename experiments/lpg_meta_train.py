r"""Learned policy gradient: meta-train a rule on grid-worlds by meta-gradient (Oh et al. 2020).

python experiments/lpg_meta_train.py                       # sizes for two CPU cores
python experiments/lpg_meta_train.py --learner.num-agents 512 --agent.num-envs 64 \
    --agent.rule-width 256 --agent.optimizer sgd --hypers.agent.learning-rate 40 \
    --hypers.learning-rate 1e-4 --hypers.regularizer.entropy 0.05 \
    --hypers.regularizer.pi-hat 0.005 --meta-steps 5000    # GROOVE's

The rules are written to OUT/rule-SEED.npz; `lpg_meta_test.py --rule FILE` tests one.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import lpg, meta_lpg
from algos.rules import save_population
from envs.gridworld_levels import LEVELS
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.meta import gradient
from purejaxrl.running.runner import RunOptions
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
    """Rules to learn, one after the other; their seeds count up from `first_seed`."""
    learner: gradient.Config = gradient.Config()
    """Static settings of the meta-learner."""
    agent: lpg.Config = lpg.Config(num_envs=16, rule_width=64)
    """Static settings of the agents and of the rule."""
    hypers: gradient.Hypers = meta_lpg.gradient_hypers()
    """The meta-learner's hyperparameters."""
    run: RunFlags = RunOptions(out="results/lpg_meta_train")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"LPG meta-trained on grid-worlds ({self.levels})"


def build(settings: Settings) -> Job:
    require_count(settings, "meta_steps")
    require_known("levels", settings.levels, LEVELS)
    require_known("lifetimes", settings.lifetimes or settings.levels, LEVELS)
    env, _ = envs.make(f"gridworld-{settings.levels}")
    sample_lifetime = LEVELS[settings.lifetimes or settings.levels].sample_lifetime
    world = meta_lpg.world(settings.agent, env, sample_lifetime)
    learner = meta_lpg.by_gradient(settings.learner, settings.agent, world)
    return Job(learner, (), settings.meta_steps)


if __name__ == "__main__":
    launch(Settings, build, save=lambda one: save_population(one.result, one.settings.agent))
