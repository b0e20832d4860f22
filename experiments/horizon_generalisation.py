r"""How well learned rules do in lives shorter and longer than those that they were learned on.

Every rule trains agents on the same new levels, once for each horizon; the score is the return of
the final policy (Jackson et al. 2024, arXiv 2402.05828, section 5.1). Name shipped rules, files, or
folders of `.npz` files; the rules of a folder are one contender. Killed and started again, it
continues.

python experiments/horizon_generalisation.py --rules lpg ta_lpg
python experiments/horizon_generalisation.py \
    --rules results/lpg_meta_train results/ta_lpg_meta_train --trained-on 10 250

OUT holds `scores.csv` (every rule, horizon and level), `table.csv` and `horizons.png`. OUT/lives
keeps the scores of each rule and horizon, in files named by the rule's content and the settings.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import lpg_meta_test
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.progress import track
from rich.table import Table

import envs
from algos import lpg
from algos.rules import load_rules
from envs.gridworld_levels import LEVELS
from purejaxrl.algorithm import Task
from purejaxrl.identity import fingerprint, part_name
from purejaxrl.launch import command, say
from purejaxrl.meta.lifetime import train_and_evaluate
from purejaxrl.running.checkpoint import write_atomically
from purejaxrl.running.commandline import writable_folder
from purejaxrl.running.devices import layout
from purejaxrl.running.logs import console
from purejaxrl.study.stats import Estimate, interval
from purejaxrl.validation import check_hypers, require, require_count, require_counts, require_known


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
    hypers: lpg.Hypers = lpg.Hypers()
    """Hyperparameters of the agents, such as their step size."""
    out: Path = Path("results/horizon_generalisation")
    """Folder."""

    def __post_init__(self):
        require_known("levels", self.levels, LEVELS)
        require_count(self, "num_levels", "num_episodes")
        require_counts(self, "horizons")
        check_hypers(self.hypers)
        first, last = self.trained_on
        require(1 <= first <= last, self, "trained_on", "two integers, 1 <= shortest <= longest")
        require(bool(self.rules), self, "rules", "one or more rules")
        labels = self.names()
        differ = len(labels) == len(set(labels)) == len(self.rules)
        require(differ, self, "labels", f"a name for each rule, all different, not {labels}")
        for name in self.rules:
            load_rules(name, lpg.Config)
        object.__setattr__(self, "out", writable_folder(self.out))

    def names(self) -> tuple[str, ...]:
        """What to call the contenders in tables and plots."""
        return self.labels or tuple(Path(name).stem for name in self.rules)


def make_lives(config: lpg.Config, env: Any, settings: Settings) -> Callable:
    """Make `(rule, keys, levels, horizon) -> returns [num_levels]`, compiled once for a config."""
    algorithm = lpg.make(config, env)
    plan = layout(settings.num_levels)

    def lives(rule: Any, keys: jax.Array, levels: Any, horizon: jax.Array) -> jax.Array:
        def one(key: jax.Array, level: Any) -> jax.Array:
            hypers, task = lpg.with_rule(rule, settings.hypers), Task(level, horizon)
            return train_and_evaluate(
                algorithm, env, key, hypers, task, num_episodes=settings.num_episodes
            )

        return plan.map(one, (None, None), None)(keys, levels)

    compiled = plan.jit(lives)
    return lambda rule, keys, levels, horizon: plan.trim(
        compiled(rule, plan.place(keys), plan.place(levels), jnp.int32(horizon))
    )


def test(settings: Settings) -> pd.DataFrame:
    """Test all rules at all horizons: a row for each rule, horizon and level."""
    env, _ = envs.make(f"gridworld-{settings.levels}")
    level_keys, keys = jax.random.split(jax.random.key(1), (2, settings.num_levels))
    levels = jax.vmap(env.sample_level)(level_keys)
    optimum = lpg_meta_test.optimum(env, levels)
    (settings.out / "lives").mkdir(parents=True, exist_ok=True)

    compiled: dict[lpg.Config, Callable] = {}
    rules = [
        (name, *rule)
        for name, file in zip(settings.names(), settings.rules, strict=True)
        for rule in enumerate(load_rules(file, lpg.Config))
    ]
    rows = []
    todo = list(itertools.product(rules, settings.horizons))
    for (name, seed, (config, rule)), horizon in track(todo, "lives", console=console):
        lived = part_name(config), rule, settings.hypers, levels, keys, settings.num_episodes
        path = settings.out / "lives" / f"{fingerprint((lived, horizon))}.csv"
        if not path.exists():
            if config not in compiled:
                compiled[config] = make_lives(config, env, settings)
            score = np.asarray(compiled[config](rule, keys, levels, horizon))
            write_atomically(path, pd.DataFrame({"score": score}).to_csv(index=False))
        columns = {"rule": name, "seed": seed, "horizon": horizon}
        columns["level"] = np.arange(settings.num_levels)
        columns["score"] = pd.read_csv(path, float_precision="round_trip")["score"]
        if optimum is not None:
            columns["optimum"] = optimum
        rows.append(pd.DataFrame(columns))
    frame = pd.concat(rows)
    frame.to_csv(settings.out / "scores.csv", index=False)
    return frame


def tabulate(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate mean scores by contender and horizon, and the gain over the first contender.

    Scores are fractions of the optimum where that is known, averaged over a contender's rules;
    intervals are over levels.
    """
    frame = frame[np.isfinite(frame["score"])].copy()
    if "optimum" in frame:
        frame = frame[frame["optimum"] > 1e-3]
        frame["score"] /= frame["optimum"]
    by = ["rule", "horizon", "level"]
    scores = frame.groupby(by, sort=False)["score"].mean().unstack()
    first, rows = frame["rule"].iloc[0], []
    for (rule, horizon), score in scores.iterrows():
        row = {"rule": rule, "horizon": horizon, **interval(score.dropna().to_numpy())._asdict()}
        gain = interval((score - scores.loc[first, horizon]).dropna().to_numpy())
        rows.append(row | {f"gain_{name}": x for name, x in gain._asdict().items()})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, settings: Settings) -> None:
    """Draw the score over the horizon, and the gain over the first contender."""
    figure = matplotlib.figure.Figure(figsize=(9, 3.8), layout="constrained")
    score, gain = figure.subplots(1, 2)
    for name, part in table.groupby("rule", sort=False):
        for axes, prefix in (score, ""), (gain, "gain_"):
            value, low, high = (part[prefix + x] for x in ("value", "low", "high"))
            (line,) = axes.plot(part["horizon"], value, marker=".", label=name)
            axes.fill_between(part["horizon"], low, high, color=line.get_color(), alpha=0.2, lw=0)
    for axes in score, gain:
        axes.axvspan(*settings.trained_on, color="grey", alpha=0.12, lw=0)
        axes.set(xscale="log", xlabel="length of life, in updates (grey: learned on)")
        axes.spines[["top", "right"]].set_visible(False)
    score.set(ylabel="return of the final policy, of the optimum")
    gain.set(ylabel=f"gain over {table['rule'].iloc[0]}")
    score.legend(frameon=False)
    figure.savefig(settings.out / "horizons.png", dpi=150)


def main(settings: Settings) -> None:
    table = tabulate(test(settings))
    table.to_csv(settings.out / "table.csv", index=False, float_format="%.5g")
    draw(table, settings)
    names = list(dict.fromkeys(table["rule"]))
    shown = Table("horizon", *names)
    for horizon, part in table.groupby("horizon"):
        values = part.set_index("rule")[["value", "low", "high"]]
        shown.add_row(str(horizon), *(str(Estimate(*values.loc[name])) for name in names))
    console.print(shown)
    say(f"scores, table and picture are in {settings.out}")


if __name__ == "__main__":
    command(main, Settings)
