r"""Rules in environments of families that general rules were not trained in, beside PPO and A2C.

python experiments/rule_tournament.py
python experiments/rule_tournament.py --contenders A2C PPO lpg results/evolve_rule \
    --envs CartPole-v1 garnet --total-steps 1e5

A contender is a hand-made algorithm (A2C, PPO, DPO, REINFORCE; hand, evolved, evolved_by_age, start
and teacher are A2C and PPO inside LPG's interface), a shipped rule, a file, or a folder of `.npz`
files, whose rules are one contender. Shipped rules are lpg, ta_lpg, lpo, ta_lpo and disco103.
disco103 costs about a hundred times as much as the others, so it is not among the defaults.

All contenders have equally many environments, networks of the same widths, and equally many
environment steps; the number of steps per update is their own. Step size and entropy bonus of each
are tuned on other agents with the same number of tries. In each environment, 0 is the score of
random actions, and 1 that of the reference.

By default it takes about two hours of two idle cores, more than half of them in MinAtar: a
contender takes 20 to 30 minutes of one core.

Killed and started again, it continues; with other contenders or environments, it uses the runs that
are there. OUT holds `scores.csv` (every agent of the environments that are done), `suite.csv`
(interquartile means), `environments.csv` (means by environment) and `suite.png`; `life.csv` and
`life.png`, interquartile means in each fifth of life.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

import envs
from algos.rules.contenders import Tune, check_contender, contenders_of
from purejaxrl.launch import command, writable_folder
from purejaxrl.parts.wrappers import for_network
from purejaxrl.study import life
from purejaxrl.study.compare import Contender, Problem, Scale, compare, in_turn, prepare
from purejaxrl.study.suite import Column, report, with_random
from purejaxrl.validation import require, require_count, require_names

STEPS: Mapping[str, float] = {
    "CartPole-v1": 2e5,
    "Acrobot-v1": 2e5,
    "Asterix-MinAtar": 3e5,
    "Breakout-MinAtar": 3e5,
    "Freeway-MinAtar": 3e5,
    "SpaceInvaders-MinAtar": 3e5,
    "DeepSea-bsuite": 1e5,
    "DiscountingChain-bsuite": 1e5,
    "UmbrellaChain-bsuite": 1e5,
    "chain-long": 1e5,
    "garnet": 1e5,
    "gridworld-mazes": 2e5,
    "bandit-contextual": 1e5,
    "FourRooms-misc": 2e5,
}
"""Environments that are kept for tests (`HELD_OUT` in `algos/rules/worlds.py`), and the environment
steps of a life. But lpo and ta_lpo were evolved in CartPole, and `lpo_meta_train.py` evolves drifts
also in Acrobot and SpaceInvaders. Two are left out, as PPO is no better than random actions there:
MemoryChain, which needs a memory, and MountainCar (-199.9), whose goal it hardly ever reaches."""


@dataclass(frozen=True)
class Settings:
    """Settings of the tournament."""

    contenders: tuple[str, ...] = (
        "A2C", "PPO", "DPO", "lpo", "ta_lpo", "lpg", "ta_lpg", "hand", "evolved",
    )  # fmt: skip
    """Hand-made algorithms, shipped rules, files, or folders of files."""
    labels: tuple[str, ...] = ()
    """What to call the contenders; by default after their files and folders."""
    envs: tuple[str, ...] = tuple(STEPS)
    """Environments."""
    total_steps: float | None = None
    """Environment steps of a life; by default those of the table `STEPS`."""
    num_agents: int = 8
    """Agents that are tested, each with its own seed (and level)."""
    num_tuning: int = 2
    """Other agents, which are trained with every combination of hyperparameters to try."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Step sizes to try."""
    tune: Tune = "all"
    """What is tuned: the step size alone, or also the entropy bonus."""
    tuning_rounds: int = 1
    """How often more values are tried, around the best one so far."""
    greedy_episodes: int = 16
    """Episodes that each final policy plays by its most likely actions; 0 for none."""
    num_envs: int = 16
    """Environments of an agent."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the agents' networks."""
    reference: str = "PPO"
    """The contender whose mean score is 1."""
    baseline: str = "A2C"
    """The contender that the others are compared with."""
    column: Column = "score"
    """What the report is about: `score`, the return of sampled actions in the last fifth of life,
    or `greedy`, that of the final policy's most likely actions."""
    out: Path = Path("results/rule_tournament")
    """Folder."""

    def __post_init__(self):
        require_count(self, "num_envs")
        require(bool(self.contenders), self, "contenders", "one or more contenders")
        for name in self.contenders:
            check_contender(name)
        labels = self.names()
        differ = len(labels) == len(set(labels)) == len(self.contenders)
        expected = f"a name of a folder for each contender, all different, not {labels}"
        require(differ and not any("/" in x for x in labels), self, "labels", expected)
        of_contenders = f"one of the contenders {', '.join(labels)}"
        for field in ("reference", "baseline"):
            require(getattr(self, field) in labels, self, field, of_contenders)
        require_names(self, "envs", "environment", envs.names())
        for name in self.envs:
            known = self.total_steps is not None or name in STEPS
            require(known, self, "total_steps", f"a number, as the table has none for {name!r}")
            self.scale(name)
        scored = self.column == "score" or self.greedy_episodes > 0
        require(scored, self, "column", "'score' where greedy_episodes is 0")
        object.__setattr__(self, "out", writable_folder(self.out))

    def names(self) -> tuple[str, ...]:
        """Return what tables call the contenders."""
        return self.labels or tuple(Path(name).stem for name in self.contenders)

    def scale(self, env: str) -> Scale:
        """Return the scale of the comparison in one environment."""
        total_steps = STEPS[env] if self.total_steps is None else self.total_steps
        return Scale(
            self.num_agents, self.num_tuning, total_steps=total_steps,
            tuning_rounds=self.tuning_rounds, greedy_episodes=self.greedy_episodes,
        )  # fmt: skip


def build(name: str, settings: Settings) -> tuple[Problem, list[Contender]]:
    """Make an environment whose observations networks can read, and every contender."""
    env, env_params = envs.make(name)
    env, found = for_network(env), []
    for contender, label in zip(settings.contenders, settings.names(), strict=True):
        found += contenders_of(
            contender, env, label, tune=settings.tune, rates=settings.learning_rates,
            num_envs=settings.num_envs, hidden=settings.hidden,
        )  # fmt: skip
    return Problem(name, env, env_params), found


def main(settings: Settings) -> None:
    found, parts = [], []
    prepared = prepare(
        settings.envs, partial(build, settings=settings), lambda one: settings.scale(one.name)
    )
    for problem, contenders in in_turn(prepared):
        scores, metrics = compare(contenders, problem, settings.scale(problem.name), settings.out)
        found.append(with_random(scores, problem))
        parts.append(life.by_part(metrics).assign(env=problem.name))
        pd.concat(found).to_csv(settings.out / "scores.csv", index=False)
    scores, reference = pd.concat(found), [settings.reference]
    life.report(pd.concat(parts), scores, reference, settings.out)
    report(scores, reference, settings.baseline, settings.out, settings.column)


if __name__ == "__main__":
    command(main, Settings)
