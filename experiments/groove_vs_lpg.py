"""GROOVE against LPG at equal budget: do rules learned on chosen levels generalise better?

Every contender is a curriculum: `uniform` levels, the five handcrafted ones (`tabular`), or GROOVE
with one of its scores. Each meta-trains a rule for every seed; all rules are then tested on new
levels, beside A2C. Killed and started again, it continues.

python experiments/groove_vs_lpg.py
python experiments/groove_vs_lpg.py --curricula uniform regret --envs gridworld-all_shortlife

OUT holds `scores.csv` (every rule on every level), `table.csv` and `generalisation.png`.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import groove_meta_train
import lpg_meta_test
import lpg_meta_train
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.table import Table

import envs
from purejaxrl.launch import command, say
from purejaxrl.running.commandline import writable_folder
from purejaxrl.running.logs import console
from purejaxrl.study.stats import crossed_interval
from purejaxrl.ued.scores import SCORES
from purejaxrl.validation import require_count, require_distinct, require_known

CURRICULA = ("uniform", "tabular", *SCORES)


@dataclass(frozen=True)
class Scale:
    """How large the test of a rule on one environment is."""

    num_agents: int
    """Agents, each with its own seed (and level)."""
    num_tuning: int
    """Other agents, with which the step size is tuned."""
    num_updates: int
    """Length of a life."""

    def __post_init__(self):
        require_count(self, "num_agents", "num_tuning", "num_updates")


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    curricula: tuple[str, ...] = CURRICULA
    """Contenders: uniform, tabular, regret, pvl, l1, maxmc, learnability, random. The others are
    compared with `uniform`."""
    meta_steps: int = 1000
    """Meta-steps in which every rule is learned."""
    seeds: int = 3
    """Rules of every contender."""
    envs: tuple[str, ...] = ("gridworld-all_shortlife", "gridworld-mazes", "Breakout-MinAtar")
    """Environments to test in."""
    on_levels: Scale = Scale(num_agents=128, num_tuning=16, num_updates=250)
    """Scale of the test where every agent has its own level."""
    elsewhere: Scale = Scale(num_agents=16, num_tuning=8, num_updates=500)
    """Scale of the test where only seeds differ."""
    out: Path = Path("results/groove_vs_lpg")
    """Folder."""

    def __post_init__(self):
        require_count(self, "meta_steps", "seeds")
        require_distinct(self, "curricula", f"of {', '.join(CURRICULA)}")
        require_distinct(self, "envs", "names of environments")
        for name in self.curricula:
            require_known("curriculum", name, CURRICULA)
        for name in self.envs:
            require_known("environment", name, envs.names())
        object.__setattr__(self, "out", writable_folder(self.out))


def meta_train(name: str, settings: Settings) -> list[Path]:
    """Learn the rules of one contender; returns their files."""
    if name in SCORES:
        chosen = groove_meta_train.Settings(
            score=name, meta_steps=settings.meta_steps, seeds=settings.seeds
        )
        job = groove_meta_train.build(chosen)
    else:
        levels = "all_shortlife" if name == "uniform" else name
        chosen = lpg_meta_train.Settings(
            levels=levels,
            lifetimes="all_shortlife",
            meta_steps=settings.meta_steps,
            seeds=settings.seeds,
        )
        job = lpg_meta_train.build(chosen)
    say(f"meta-training {name}: {settings.seeds} rules")
    return lpg_meta_train.learn_rules(job, chosen, settings.out / name / "rules")


def meta_test(rules: dict[str, list[Path]], name: str, settings: Settings) -> pd.DataFrame:
    """Test all rules on one environment: a row for each rule and level."""
    env, params = lpg_meta_test.make_env(name)
    scale = settings.on_levels if hasattr(env, "sample_level") else settings.elsewhere
    rows, best = [], None
    for curriculum, paths in rules.items():
        for seed, path in enumerate(paths):
            chosen = lpg_meta_test.Settings(rule=str(path), env=name, **asdict(scale))
            found = {c.name: c for c in lpg_meta_test.contenders(chosen, env, params)}
            entries = {curriculum: found["LPG"]} | ({} if rows else {"A2C": found["A2C"]})
            for label, contender in entries.items():
                out = settings.out / label / name
                one = lpg_meta_test.tune_and_test(contender, chosen, env, params, out)
                best = lpg_meta_test.optimum(env, one.levels) if best is None else best
                about = {"env": name, "curriculum": label, "seed": seed}
                rows.append(
                    pd.DataFrame(about | {"level": np.arange(len(one.scores)), "score": one.scores})
                )
                if best is not None:
                    rows[-1]["optimum"] = best
    return pd.concat(rows)


def tabulate(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate means over rules and levels, and the chance to be better than uniform levels.

    Intervals are over levels and rules. A few rules tell little about how others would differ.
    """
    rows = []
    for (env, curriculum), part in frame.groupby(["env", "curriculum"], sort=False):
        by_level = part.pivot(index="level", columns="seed", values="score")
        row = {"env": env, "curriculum": curriculum, "rules": by_level.shape[1]}
        row["return"] = str(crossed_interval(by_level.to_numpy()))
        if "optimum" in part and part["optimum"].notna().all():
            optimum = part.groupby("level")["optimum"].first()
            ratio = by_level.div(optimum, axis="index")[optimum > 1e-3]
            row["of the optimum"] = str(crossed_interval(ratio.to_numpy()))
        baseline = frame[(frame["env"] == env) & (frame["curriculum"] == "uniform")]
        if curriculum != "uniform" and len(baseline):
            other = baseline.pivot(index="level", columns="seed", values="score")
            difference = by_level.to_numpy()[:, :, None] - other.to_numpy()[:, None, :]
            better = 0.5 * (1 + np.sign(difference))  # every rule against every other
            row["P(better than uniform)"] = str(crossed_interval(better))
        rows.append(row)
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw the mean score of every rule, a panel for each environment."""
    names = list(dict.fromkeys(frame["env"]))
    figure = matplotlib.figure.Figure(figsize=(4 * len(names), 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        part = frame[frame["env"] == name]
        means = part.groupby(["curriculum", "seed"], sort=False)["score"].mean().reset_index()
        for label, rules in means.groupby("curriculum", sort=False):
            axes.bar(label, rules["score"].mean(), color="tab:blue", alpha=0.4)
            axes.plot([label] * len(rules), rules["score"], "k.", ms=5)
        axes.set(title=name, ylabel="return in the last fifth of life")
        axes.tick_params(axis="x", rotation=60)
    figure.savefig(path, dpi=150)


def main(settings: Settings) -> None:
    for name in settings.envs:
        asked = lpg_meta_test.Settings(env=name)
        lpg_meta_test.require_trainable(name, partial(lpg_meta_test.contenders, asked))
    rules = {name: meta_train(name, settings) for name in settings.curricula}
    frame = pd.concat([meta_test(rules, name, settings) for name in settings.envs])
    frame.to_csv(settings.out / "scores.csv", index=False)
    sound = frame["score"].map(np.isfinite).groupby([frame["env"], frame["level"]]).transform("all")
    if not sound.all():
        levels = len(frame[~sound][["env", "level"]].drop_duplicates())
        say(f"left out: {levels} levels where an agent diverged or finished no episode")
    frame = frame[sound]
    if frame.empty:
        raise ValueError("no level is left to compare: an agent failed on each")
    table = tabulate(frame)
    table.to_csv(settings.out / "table.csv", index=False)
    draw(frame, settings.out / "generalisation.png")
    shown = Table(*table.columns)
    for row in table.fillna("").itertuples(index=False):
        shown.add_row(*map(str, row))
    console.print(shown)
    say(f"scores, table and picture are in {settings.out}")


if __name__ == "__main__":
    command(main, Settings)
