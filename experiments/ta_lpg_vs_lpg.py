"""Does a learned rule gain from knowing the time, and can meta-gradients learn to use it?

Four contenders: LPG and TA-LPG, each learned by meta-gradient and by evolution, on the same levels
for lives of 10 to 250 updates. All are then tested at shorter, equal and longer horizons. Killed
and started again, it continues.

python experiments/ta_lpg_vs_lpg.py
python experiments/ta_lpg_vs_lpg.py --meta-steps 500 --generations 80 --seeds 1

OUT holds the rules of every contender, `scores.csv` (every rule, horizon and level), `table.csv`
and `horizons.png`. `objective_atlas.py` plots how the rules use the time; its command is printed.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import envs
from algos import lpg, meta_lpg, ta_lpg
from algos.rules import load_rule
from algos.rules.learn import learn_rules, require_rules
from envs.gridworld_levels import LEVELS
from envs.optimum import optimal_returns
from purejaxrl.launch import command, say, writable_folder
from purejaxrl.meta import evolution, gradient
from purejaxrl.study import horizons
from purejaxrl.study.terms import Contender, Problem
from purejaxrl.validation import require_count, require_counts, require_known, require_names

AGENTS = {"LPG": lpg.Config, "TA-LPG": ta_lpg.Config}
CONTENDERS = tuple(f"{rule}-{how}" for rule in AGENTS for how in ("gradient", "evolution"))


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    contenders: tuple[str, ...] = CONTENDERS
    """Contenders; the others are compared with the first."""
    levels: str = "all_vrandlife"
    """Distribution of levels and of lifetimes: see envs/gridworld_levels.py."""
    meta_steps: int = 2000
    """Meta-steps in which a rule is learned by meta-gradient."""
    generations: int = 300
    """Generations in which a rule is evolved: about as many environment steps."""
    seeds: int = 3
    """Rules of every contender."""
    num_envs: int = 16
    """Environments of an agent."""
    rule_width: int = 64
    """Width of the rules' recurrent state."""
    horizons: tuple[int, ...] = (5, 10, 25, 50, 100, 250, 500, 1000)
    """Lengths of life to test at."""
    num_levels: int = 64
    """Levels to test on, an agent on each."""
    out: Path = Path("results/ta_lpg_vs_lpg")
    """Folder."""

    def __post_init__(self):
        require_count(
            self, "meta_steps", "generations", "seeds", "num_envs", "rule_width", "num_levels"
        )
        require_names(self, "contenders", "contender", CONTENDERS)
        require_known("levels", self.levels, LEVELS)
        require_counts(self, "horizons")
        object.__setattr__(self, "out", writable_folder(self.out))


def learn(name: str, env: Any, settings: Settings) -> list[Path]:
    """Learn the rules of one contender; returns their files."""
    rule, _, how = name.rpartition("-")
    agent = AGENTS[rule](num_envs=settings.num_envs, rule_width=settings.rule_width)
    world = meta_lpg.world(agent, env, LEVELS[settings.levels].sample_lifetime)
    if how == "gradient":
        learner = meta_lpg.by_gradient(gradient.Config(), agent, world)
        hypers, num_updates = meta_lpg.gradient_hypers(), settings.meta_steps
    else:
        learner = meta_lpg.by_evolution(evolution.Config(), agent, world)
        hypers, num_updates = evolution.Hypers(agent=lpg.Hypers()), settings.generations
    files = learn_rules(
        learner, hypers, agent,
        num_rules=settings.seeds, num_updates=num_updates, out=settings.out / name,
    )  # fmt: skip
    require_rules(name, files)
    return files


def main(settings: Settings) -> None:
    env, level = envs.make(f"gridworld-{settings.levels}")
    rules = {name: learn(name, env, settings) for name in settings.contenders}
    contenders = [
        Contender(name, *load_rule(file).agent(env))
        for name, files in rules.items()
        for file in files
    ]
    scores = horizons.score_lives(
        contenders,
        Problem(settings.levels, env, level, partial(optimal_returns, env)),
        settings.horizons,
        num_levels=settings.num_levels,
        num_episodes=64,
        out=settings.out,
    )
    horizons.report(scores, LEVELS[settings.levels].lifetime, settings.out)
    files = " ".join(str(files[0]) for files in rules.values())
    say(
        "how the rules use the time: python experiments/objective_atlas.py "
        f"--objectives {files} --labels {' '.join(rules)} --levels {settings.levels}"
    )


if __name__ == "__main__":
    command(main, Settings)
