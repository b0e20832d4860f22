"""GROOVE against LPG at equal meta-steps: do rules learned on chosen levels generalise better?

Every contender is a curriculum: `uniform` levels, the five handcrafted ones (`tabular`), or GROOVE
with one of its scores. Each meta-trains a rule for every seed, with 1e9 steps of its agents by
default. The antagonists of regret add 83 %, and evaluations up to 27 %; neither is in `env_steps`.
All rules are tested on new levels, beside A2C. Killed and started again, it continues.

python experiments/groove_vs_lpg.py
python experiments/groove_vs_lpg.py --curricula uniform regret --meta-steps 1000

OUT holds `scores.csv` (every rule on every level), `table.csv`, `scores.png`, and `relative.csv`
and `relative.png` (scores in units of A2C's).
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import pandas as pd

import envs
from algos import groove, lpg, meta_lpg
from algos.rules import LearnedRule, load_rule
from algos.rules.contenders import Tune, rules_and_a2c
from algos.rules.learn import learn_rules, require_rules
from envs.gridworld_levels import LEVELS
from envs.optimum import optimal_returns, solver
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import command, writable_folder
from purejaxrl.meta import gradient
from purejaxrl.parts.wrappers import for_network
from purejaxrl.study import relative, tables
from purejaxrl.study.compare import Contender, Problem, Scale, compare, in_turn, prepare
from purejaxrl.ued.scores import SCORES
from purejaxrl.validation import check_hypers, require_count, require_names

CURRICULA = ("uniform", "tabular", *SCORES)
LEARNED_ON = "all_shortlife"
AGENT = lpg.Config(num_envs=16, rule_width=64)
SHARED = [field.name for field in fields(gradient.Config)]
"""Settings of GROOVE's meta-learner that one without its buffer also has."""


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    curricula: tuple[str, ...] = ("uniform", "regret", "random")
    """Contenders: uniform, tabular, regret, true_regret, pvl, l1, maxmc, learnability, random. The
    others are compared with `uniform`, or with the first where it is not among them."""
    meta_steps: int = 8200
    """Meta-steps in which every rule is learned."""
    seeds: int = 3
    """Rules of every contender."""
    learner: groove.Config = groove.Config()
    """Static settings of the meta-learners, and of GROOVE's level buffer."""
    hypers: groove.Hypers = groove.hypers(**meta_lpg.TUNED)
    """The meta-learners' hyperparameters."""
    envs: tuple[str, ...] = ("gridworld-all_shortlife", "gridworld-mazes", "Breakout-MinAtar")
    """Environments to test in."""
    on_levels: Scale = Scale(num_agents=128, num_tuning=16, num_updates=250)
    """Scale of the test where every agent has its own level."""
    elsewhere: Scale = Scale(num_agents=16, num_tuning=8, num_updates=3000)
    """Scale of the test where only seeds differ."""
    tune: Tune = "all"
    """What is tuned: the step size alone, or also a coefficient of the loss."""
    out: Path = Path("results/groove_vs_lpg")
    """Folder."""

    def __post_init__(self):
        require_count(self, "meta_steps", "seeds")
        require_names(self, "curricula", "curriculum", CURRICULA)
        require_names(self, "envs", "environment", envs.names())
        check_hypers(self.hypers)
        object.__setattr__(self, "out", writable_folder(self.out))

    def scale(self, problem: Problem) -> Scale:
        """Return the scale of the test in an environment."""
        return self.on_levels if problem.has_levels else self.elsewhere


def make_learner(settings: Settings, curriculum: str) -> tuple[Algorithm, gradient.Hypers]:
    """Make the meta-learner of a curriculum, and its hyperparameters."""
    name = "tabular" if curriculum == "tabular" else LEARNED_ON
    env, _ = envs.make(f"gridworld-{name}")
    sample_lifetime = LEVELS[LEARNED_ON].sample_lifetime
    if curriculum in SCORES:
        score = SCORES[curriculum]
        learner = groove.make(
            settings.learner, AGENT, env, env.sample_level, sample_lifetime, score, solver(env)
        )
        return learner, settings.hypers
    config = gradient.Config(**{name: getattr(settings.learner, name) for name in SHARED})
    world = meta_lpg.world(AGENT, env, sample_lifetime)
    learner = meta_lpg.by_gradient(config, AGENT, world)
    return learner, settings.hypers.replace(curriculum=None, antagonist=None)


def build(
    name: str, rules: dict[str, list[LearnedRule]], tune: Tune
) -> tuple[Problem, list[Contender]]:
    """Make an environment, every rule of every curriculum, and A2C."""
    env, env_params = envs.make(name)
    env = for_network(env, tables=True)
    problem = Problem(name, env, env_params, partial(optimal_returns, env))
    return problem, rules_and_a2c(rules, env, AGENT, tune)


def main(settings: Settings) -> None:
    make = partial(build, tune=settings.tune)
    prepare(settings.envs, partial(make, rules={"any": [load_rule("lpg")]}), settings.scale)
    learners = {name: make_learner(settings, name) for name in settings.curricula}
    rules = {}
    for name, (learner, hypers) in learners.items():
        files = learn_rules(
            learner, hypers, AGENT,
            num_rules=settings.seeds, num_updates=settings.meta_steps, out=settings.out / name,
        )  # fmt: skip
        require_rules(name, files)
        rules[name] = [load_rule(file) for file in files]
    found = []
    for problem, contenders in in_turn(prepare(settings.envs, partial(make, rules=rules))):
        found.append(compare(contenders, problem, settings.scale(problem), settings.out)[0])
        pd.concat(found).to_csv(settings.out / "scores.csv", index=False)
    scores = pd.concat(found)
    reference = "uniform" if "uniform" in settings.curricula else settings.curricula[0]
    tables.report(scores, reference, settings.out)
    relative.report(scores, "A2C", reference, settings.out)


if __name__ == "__main__":
    command(main, Settings)
