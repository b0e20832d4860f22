r"""How well learned rules do in lives shorter and longer than those that they were learned on.

Every rule trains agents on the same new levels, once for each horizon; the score is the return of
the final policy (Jackson et al. 2024, arXiv 2402.05828, section 5.1). Name shipped rules, files, or
folders of `.npz` files; the rules of a folder are one contender. Killed and started again, it
continues.

python experiments/horizon_generalisation.py --rules lpg_gridworlds ta_lpg
python experiments/horizon_generalisation.py --trained-on 30 500 --learning-rate 0.1 \
    --rules results/evolve_rule results/evolve_ta_rule     # differ only in their knowledge of time

OUT holds `scores.csv` (every rule, horizon and level), `table.csv` and `horizons.png`. OUT/lives
keeps the scores of each rule and horizon, in files named by the rule's content and the settings.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import envs
from algos.rules import load_rules
from envs.gridworld_levels import LEVELS
from envs.optimum import optimal_returns
from purejaxrl.launch import command, writable_folder
from purejaxrl.study import horizons
from purejaxrl.study.terms import Contender, Problem
from purejaxrl.validation import require, require_count, require_counts, require_known


@dataclass(frozen=True)
class Settings:
    """Settings of the test."""

    rules: tuple[str, ...]
    """Contenders: names of shipped rules, files, or folders of files. The others are
    compared with the first."""
    labels: tuple[str, ...] = ()
    """What to call the contenders; by default after their files and folders."""
    levels: str = "all_vrandlife"
    """Distribution of levels: see envs/gridworld_levels.py."""
    horizons: tuple[int, ...] = (5, 10, 25, 50, 100, 250, 500, 1000)
    """Lengths of life, in updates."""
    trained_on: tuple[int, int] = (10, 250)
    """Shortest and longest life that the rules were learned on; the picture shades it."""
    num_levels: int = 64
    """Levels, with an agent on each."""
    num_episodes: int = 64
    """Evaluation episodes of an agent's final policy."""
    learning_rate: float | None = None
    """Step size of the agents; by default that of the rules' algorithm. Rules that suit different
    step sizes cannot be compared at one."""
    out: Path = Path("results/horizon_generalisation")
    """Folder."""

    def __post_init__(self):
        require_known("levels", self.levels, LEVELS)
        require_count(self, "num_levels", "num_episodes")
        require_counts(self, "horizons")
        first, last = self.trained_on
        require(1 <= first <= last, self, "trained_on", "two integers, 1 <= shortest <= longest")
        require(bool(self.rules), self, "rules", "one or more rules")
        labels = self.names()
        differ = len(labels) == len(set(labels)) == len(self.rules)
        require(differ, self, "labels", f"a name for each rule, all different, not {labels}")
        for name in self.rules:
            load_rules(name)
        object.__setattr__(self, "out", writable_folder(self.out))

    def names(self) -> tuple[str, ...]:
        """What to call the contenders in tables and plots."""
        return self.labels or tuple(Path(name).stem for name in self.rules)


def main(settings: Settings) -> None:
    env, level = envs.make(f"gridworld-{settings.levels}")
    chosen = {} if settings.learning_rate is None else {"learning_rate": settings.learning_rate}
    contenders = [
        Contender(name, *rule.agent(env, **chosen))
        for name, folder in zip(settings.names(), settings.rules, strict=True)
        for rule in load_rules(folder)
    ]
    scores = horizons.score_lives(
        contenders,
        Problem(settings.levels, env, level, partial(optimal_returns, env)),
        settings.horizons,
        num_levels=settings.num_levels,
        num_episodes=settings.num_episodes,
        out=settings.out,
    )
    horizons.report(scores, settings.trained_on, settings.out)


if __name__ == "__main__":
    command(main, Settings)
