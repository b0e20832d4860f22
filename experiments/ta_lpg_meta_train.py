r"""TA-LPG: evolve a rule that reads how much of an agent's life is left (Jackson et al. 2024).

python experiments/ta_lpg_meta_train.py                    # sizes for two CPU cores
python experiments/ta_lpg_meta_train.py --levels small     # other levels; lifetimes stay
python experiments/ta_lpg_meta_train.py --learner.num-pairs 512 --learner.num-episodes 64 \
    --learner.group 8 --agent.num-envs 64 --agent.rule-width 256 \
    --generations 2500                                     # the paper's

The rules are written to OUT/rule-SEED.npz; `lpg_meta_test.py --rule FILE` tests one.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import lpg, meta_lpg, ta_lpg
from algos.rules import save_population
from envs.gridworld_levels import LEVELS
from purejaxrl.launch import Experiment, Job, RunFlags, launch
from purejaxrl.meta import evolution
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count, require_known


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of TA-LPG's evolution."""

    levels: str = "all_vrandlife"
    """Distribution of levels: see envs/gridworld_levels.py."""
    lifetimes: str = "all_vrandlife"
    """Distribution of levels from which the lifetimes are taken: 10 to 250 updates, log-uniform."""
    generations: int = 300
    """Steps of the evolution."""
    seeds: int = 3
    """Rules to learn, one after the other; their seeds count up from `first_seed`."""
    learner: evolution.Config = evolution.Config()
    """Static settings of the evolution."""
    agent: ta_lpg.Config = ta_lpg.Config(num_envs=16, rule_width=64)
    """Static settings of the agents and of the rule."""
    hypers: evolution.Hypers = evolution.Hypers(agent=lpg.Hypers())
    """The evolution's hyperparameters."""
    run: RunFlags = RunOptions(out="results/ta_lpg_meta_train", chunk=4)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"TA-LPG evolved on grid-worlds ({self.levels})"


def build(settings: Settings) -> Job:
    """Build TA-LPG, or LPG by evolution: the agents' config makes the rule."""
    require_count(settings, "generations")
    require_known("levels", settings.levels, LEVELS)
    require_known("lifetimes", settings.lifetimes, LEVELS)
    env, _ = envs.make(f"gridworld-{settings.levels}")
    sample_lifetime = LEVELS[settings.lifetimes].sample_lifetime
    world = meta_lpg.world(settings.agent, env, sample_lifetime)
    learner = meta_lpg.by_evolution(settings.learner, settings.agent, world)
    return Job(learner, (), settings.generations)


if __name__ == "__main__":
    launch(Settings, build, save=lambda one: save_population(one.result, one.settings.agent))
