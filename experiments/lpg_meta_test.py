"""Test a learned rule on new levels and environments, beside A2C, PPO and an untrained rule.

python experiments/lpg_meta_test.py --env gridworld-all_shortlife
python experiments/lpg_meta_test.py --env gridworld-mazes,gridworld-dense,chain-short
python experiments/lpg_meta_test.py --env CartPole-v1,Breakout-MinAtar --num-updates 780
python experiments/lpg_meta_test.py --rule lpo --env CartPole-v1

Every contender's step size and one more hyperparameter are first tuned on other agents (and
levels); all contenders try equally many combinations, and have the same number of interactions. A
score is the return in the last fifth of an agent's life, also as a fraction of the optimum where
that can be computed. Killed and started again, it continues. OUT/ENV holds `scores.csv`,
`table.csv`, `scores.png` and `curves.png`.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax

import envs
from algos.rules import load_rule
from algos.rules.contenders import Tune, baselines, of_rule
from envs.optimum import optimal_returns
from purejaxrl.launch import errors_in_words, writable_folder
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.words import parse
from purejaxrl.study import plots, tables
from purejaxrl.study.compare import Contender, Problem, Scale, compare, prepare
from purejaxrl.validation import require, require_known


@dataclass(frozen=True)
class Settings(Scale):
    """Settings of the test."""

    num_agents: int = 256
    """Agents of every contender, each with its own seed (and level)."""
    num_tuning: int = 32
    """Other agents, on other levels, for every combination of hyperparameters tried."""
    num_updates: int | None = None
    """Length of a life in updates; 250 unless `total_steps` is given."""
    rule: str = "lpg"
    """Name of a shipped rule, or the file of one."""
    env: str = "gridworld-all_shortlife"
    """Environment; where it has levels, every agent has its own."""
    num_envs: int = 0
    """Environments of an agent; 0 for as many as the rule was trained with."""
    tune: Tune = "all"
    """What is tuned: the step size alone, or also a coefficient of the loss."""
    out: Path = Path("results/lpg_meta_test")
    """Folder; it has a subfolder for each environment."""

    def __post_init__(self):
        if self.num_updates is None and self.total_steps is None:
            object.__setattr__(self, "num_updates", 250)
        super().__post_init__()
        require(self.num_envs >= 0, self, "num_envs", "an integer >= 0")
        require_known("environment", self.env, envs.names())
        load_rule(self.rule)
        object.__setattr__(self, "out", writable_folder(self.out))


def build(name: str, settings: Settings) -> tuple[Problem, list[Contender]]:
    """Make an environment, and every contender that fits it."""
    env, env_params = envs.make(name)
    env = for_network(env, tables=True)
    rule = load_rule(settings.rule)
    sizes = {"num_envs": settings.num_envs or rule.config.num_envs}
    contenders = [
        of_rule(one, env, tune=settings.tune, **sizes)
        for one in (rule, rule.untrained(jax.random.key(0)))
    ]
    contenders += baselines(env, contenders[0].algorithm.config, settings.tune)
    return Problem(name, env, env_params, partial(optimal_returns, env)), contenders


def test(problem: Problem, contenders: list[Contender], settings: Settings) -> None:
    """Test the contenders on one environment."""
    out = settings.out / problem.name
    scores, metrics = compare(contenders, problem, settings, settings.out)
    title = f"{problem.name}: {settings.num_agents} agents"
    plots.learning_curves(metrics, out / "curves.png", by=("contender",), title=title)
    tables.report(scores, contenders[2].name, out)


if __name__ == "__main__":
    with errors_in_words():
        parsed = parse(Settings, sys.argv[1:])
        if len({(one.out, one.env) for one in parsed}) < len(parsed):
            raise ValueError("out: tests that differ in more than `env` need folders of their own")
        prepared = [
            prepare([one.env], partial(build, settings=one), lambda _, one=one: one)[0]
            for one in parsed
        ]
        for chosen, (problem, contenders) in zip(parsed, prepared, strict=True):
            test(problem, contenders, chosen)
