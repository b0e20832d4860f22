"""What knowledge of time is worth to a learned rule, and whether meta-gradients find its use.

Four contenders: LPG and TA-LPG, each learned by meta-gradient and by evolution, on the same levels
for lives of 10 to 250 updates. Then all are tested at horizons inside and outside of these, and
asked what they make of time. Killed, it goes on where it was.

python experiments/ta_lpg_vs_lpg.py
python experiments/ta_lpg_vs_lpg.py --meta-steps 500 --generations 80 --seeds 1

OUT holds the rules of every contender; `horizons`, of horizon_generalisation.py; and `atlas`, of
objective_atlas.py.
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
from purejaxrl.launch import command
from purejaxrl.running.logs import console
from purejaxrl.validation import require_known

AGENTS = {"LPG": lpg.Config, "TA-LPG": ta_lpg.Config}
CONTENDERS = tuple(f"{rule}-{how}" for rule in AGENTS for how in ("gradient", "evolution"))


@dataclass(frozen=True)
class Settings:
    """The comparison."""

    contenders: tuple[str, ...] = CONTENDERS
    """Who takes part; the others are compared with the first."""

    levels: str = "all_vrandlife"
    """Distribution of levels and of lifetimes: see envs/gridworld_levels.py."""
    meta_steps: int = 2000
    """Of a rule learned by meta-gradient."""
    generations: int = 300
    """Of a rule learned by evolution: about as many environment steps."""
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
        for name in self.contenders:
            require_known("contender", name, CONTENDERS)


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
    console.print(f"{name}: {settings.seeds} rules")
    return lpg_meta_train.learn_rules(job, chosen, agent, settings.out / name)


def main(settings: Settings) -> None:
    rules = {name: learn(name, settings) for name in settings.contenders}
    horizon_generalisation.main(
        horizon_generalisation.Settings(
            rules=tuple(str(settings.out / name) for name in rules),
            levels=settings.levels,
            horizons=settings.horizons,
            num_levels=settings.num_levels,
            out=settings.out / "horizons",
        )
    )
    objective_atlas.main(
        objective_atlas.Settings(
            objectives=tuple(str(paths[0]) for paths in rules.values()),
            levels=settings.levels,
            num_agents=settings.num_levels,
            out=settings.out / "atlas",
        )
    )


if __name__ == "__main__":
    command(main, Settings)
