"""Does a learned rule gain from knowing the time, and can meta-gradients learn to use it?

Four contenders: LPG and TA-LPG, each learned by meta-gradient and by evolution, on the same levels
for lives of 10 to 250 updates. All are then tested at shorter, equal and longer horizons, and the
atlas shows how they use the time. Killed and started again, it continues.

python experiments/ta_lpg_vs_lpg.py
python experiments/ta_lpg_vs_lpg.py --meta-steps 500 --generations 80 --seeds 1

OUT holds the rules of every contender; `horizons`, written by horizon_generalisation.py; and
`atlas`, written by objective_atlas.py.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path

import horizon_generalisation
import lpg_meta_train
import objective_atlas
import ta_lpg_meta_train

from algos import lpg, ta_lpg
from envs.gridworld_levels import LEVELS
from purejaxrl.launch import command, say
from purejaxrl.running.commandline import writable_folder
from purejaxrl.validation import require_count, require_counts, require_distinct, require_known

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
        require_distinct(self, "contenders", f"of {', '.join(CONTENDERS)}")
        for name in self.contenders:
            require_known("contender", name, CONTENDERS)
        require_known("levels", self.levels, LEVELS)
        require_counts(self, "horizons")
        object.__setattr__(self, "out", writable_folder(self.out))


def learn(name: str, settings: Settings) -> list[Path]:
    """Learn the rules of one contender; returns their files."""
    rule, _, how = name.rpartition("-")
    agent = AGENTS[rule](num_envs=settings.num_envs, rule_width=settings.rule_width)
    shared = {"levels": settings.levels, "lifetimes": settings.levels, "seeds": settings.seeds}
    if how == "gradient":
        chosen = lpg_meta_train.Settings(**shared, agent=agent, meta_steps=settings.meta_steps)
        job = lpg_meta_train.build(chosen)
    else:
        chosen = ta_lpg_meta_train.Settings(**shared, agent=agent, generations=settings.generations)
        job = ta_lpg_meta_train.build(chosen)
    say(f"{name}: {settings.seeds} rules")
    return lpg_meta_train.learn_rules(job, chosen, settings.out / name)


def main(settings: Settings) -> None:
    rules = {name: learn(name, settings) for name in settings.contenders}
    horizon_generalisation.main(
        horizon_generalisation.Settings(
            rules=tuple(str(paths[0].parent) for paths in rules.values()),
            labels=tuple(rules),
            levels=settings.levels,
            horizons=settings.horizons,
            num_levels=settings.num_levels,
            out=settings.out / "horizons",
        )
    )
    objective_atlas.main(
        objective_atlas.Settings(
            objectives=tuple(str(paths[0]) for paths in rules.values()),
            labels=tuple(rules),
            levels=settings.levels,
            num_agents=settings.num_levels,
            out=settings.out / "atlas",
        )
    )


if __name__ == "__main__":
    command(main, Settings)
