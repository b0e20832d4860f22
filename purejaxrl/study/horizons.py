"""How well contenders do in lives of several lengths (Jackson et al. 2024, arXiv 2402.05828, 5.1).

Every contender trains agents on the same levels, once for each horizon. The score is the return of
the final policy.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.progress import track

from purejaxrl.algorithm import Algorithm, Task
from purejaxrl.identity import fingerprint, part_name
from purejaxrl.meta.lifetime import train_and_play
from purejaxrl.running.checkpoint import write_atomically
from purejaxrl.running.devices import layout
from purejaxrl.running.logs import console, say
from purejaxrl.study import tables
from purejaxrl.study.stats import Estimate
from purejaxrl.study.terms import Contender, Problem

Lives = Callable[[Any, jax.Array, Any, int], jax.Array]
"""`(hypers, keys, levels, horizon) -> returns [num_levels]`."""


def make_lives(algorithm: Algorithm, env: Any, num_levels: int, num_episodes: int) -> Lives:
    """Make a function that trains an agent on every level, compiled once for all horizons.

    Args:
        algorithm: the algorithm of the agents.
        env: where their final policies are evaluated.
        num_levels: agents.
        num_episodes: evaluation episodes of each.
    """
    plan = layout(num_levels)

    def lives(hypers: Any, keys: jax.Array, levels: Any, horizon: jax.Array) -> jax.Array:
        def one(key: jax.Array, level: Any) -> jax.Array:
            keys, tasks = jax.tree.map(lambda x: x[None], (key, Task(level, horizon)))
            played = train_and_play(
                algorithm, env, keys, hypers, tasks, None, num_episodes=num_episodes
            )
            return played.ret.mean()

        return plan.map(one, (None, None), None)(keys, levels)

    compiled = plan.jit(lives)
    return lambda hypers, keys, levels, horizon: plan.trim(
        compiled(hypers, plan.place(keys), plan.place(levels), jnp.int32(horizon))
    )


class KeptLives:
    """Trains an agent on every level, and keeps the returns in files named by their content."""

    def __init__(self, env: Any, num_episodes: int, folder: Path):
        """Keep the returns of `num_episodes` evaluation episodes in `env` in a folder."""
        self.env, self.num_episodes, self.folder = env, num_episodes, folder
        self.compiled: dict[Any, Lives] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def returns(
        self, contender: Contender, keys: jax.Array, levels: Any, horizon: int
    ) -> np.ndarray:
        """Train a contender's agents, or read the returns of the same lives.

        Args:
            contender: its hyperparameters are those of all agents.
            keys: typed keys `[num_levels]`.
            levels: leaves `[num_levels, ...]`.
            horizon: length of life, in updates.

        Returns:
            The mean return of every final policy, float64 `[num_levels]`.
        """
        algorithm, hypers = contender.algorithm, contender.hypers
        program = part_name(algorithm.config), algorithm.made_of, part_name(self.env)
        lived = fingerprint((program, hypers, levels, keys, self.num_episodes, horizon))
        path = self.folder / f"{lived}.csv"
        if not path.exists():
            size = len(keys)
            if (program, size) not in self.compiled:
                made = make_lives(algorithm, self.env, size, self.num_episodes)
                self.compiled[program, size] = made
            score = np.asarray(self.compiled[program, size](hypers, keys, levels, horizon))
            write_atomically(path, pd.DataFrame({"score": score}).to_csv(index=False))
        return pd.read_csv(path, float_precision="round_trip")["score"].to_numpy()


def score_lives(
    contenders: Sequence[Contender],
    problem: Problem,
    horizons: Sequence[int],
    *,
    num_levels: int,
    num_episodes: int,
    out: Path,
) -> pd.DataFrame:
    """Test all contenders at all horizons; killed and called again, it continues.

    Args:
        contenders: those of the same name are one contender's rules.
        problem: has levels.
        horizons: lengths of life, in updates.
        num_levels: levels, with an agent on each.
        num_episodes: evaluation episodes of an agent's final policy.
        out: `OUT/lives` keeps the scores of each contender and horizon, in files that are named by
            their content.

    Returns:
        A row for each contender, rule, horizon and level.
    """
    level_keys, keys = jax.random.split(jax.random.key(1), (2, num_levels))
    levels = jax.vmap(problem.env.sample_level)(level_keys)
    best = problem.optimum(levels)
    lives = KeptLives(problem.env, num_episodes, out / "lives")
    names, rows = [one.name for one in contenders], []
    todo = list(itertools.product(enumerate(contenders), horizons))
    for (i, contender), horizon in track(todo, "lives", console=console):
        rows.append(pd.DataFrame({
            "contender": contender.name,
            "rule": names[:i].count(contender.name),
            "horizon": horizon,
            "agent": np.arange(num_levels),
            "score": lives.returns(contender, keys, levels, horizon),
            "optimum": np.nan if best is None else best,
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def tabulate(scores: pd.DataFrame) -> pd.DataFrame:
    """Tabulate mean scores by contender and horizon, and the gain over the first contender.

    Scores are fractions of the optimum where that is known. Intervals treat rules and levels as
    random samples (`stats.interval`). Agents that diverged are counted (`failed`), and left out of
    the means. An episode that is cut counts with its return so far.
    """
    if scores["optimum"].notna().all():
        scores = scores[scores["optimum"] > tables.LEAST_OPTIMUM]
        scores = scores.assign(score=scores["score"] / scores["optimum"])
    by_name = {
        key: tables.by_agent(part)
        for key, part in scores.groupby(["contender", "horizon"], sort=False)
    }
    first, rows = scores["contender"].iloc[0], []
    for (name, horizon), found in by_name.items():
        others = by_name[first, horizon]
        gain = found - found if name == first else found[:, :, None] - others[:, None, :]
        row = {"contender": name, "horizon": horizon, "failed": np.isnan(found).sum()}
        for prefix, values in (("", found), ("gain_", gain)):
            estimate = tables.estimate(values) or Estimate(np.nan, np.nan, np.nan)
            row |= {f"{prefix}{field}": value for field, value in estimate._asdict().items()}
        rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path, trained_on: tuple[int, int]) -> None:
    """Draw the score over the horizon, and the gain over the first contender.

    Args:
        table: what `tabulate` returned.
        path: the file.
        trained_on: the shortest and the longest life in training; the range between is shaded.
    """
    figure = matplotlib.figure.Figure(figsize=(9, 3.8), layout="constrained")
    score, gain = figure.subplots(1, 2)
    for name, part in table.groupby("contender", sort=False):
        for axes, prefix in (score, ""), (gain, "gain_"):
            value, low, high = (part[prefix + x] for x in ("value", "low", "high"))
            (line,) = axes.plot(part["horizon"], value, marker=".", label=name)
            axes.fill_between(part["horizon"], low, high, color=line.get_color(), alpha=0.2, lw=0)
    for axes in score, gain:
        axes.axvspan(*trained_on, color="grey", alpha=0.12, lw=0)
        axes.set(xscale="log", xlabel="length of life, in updates (grey: learned on)")
        axes.spines[["top", "right"]].set_visible(False)
    score.set(ylabel="return of the final policy (over the optimum, if known)")
    gain.set(ylabel=f"gain over {table['contender'].iloc[0]}")
    score.legend(frameon=False)
    figure.savefig(path, dpi=150)


def report(scores: pd.DataFrame, trained_on: tuple[int, int], out: Path) -> None:
    """Write `scores.csv`, `table.csv` and `horizons.png` to OUT, and print the table."""
    scores.to_csv(out / "scores.csv", index=False)
    table = tabulate(scores)
    table.to_csv(out / "table.csv", index=False, float_format="%.5g")
    draw(table, out / "horizons.png", trained_on)
    text = tables.format_estimates(table["value"], table["low"], table["high"])
    shown = table.assign(text=text).pivot(index="horizon", columns="contender", values="text")
    tables.print_table(shown[list(dict.fromkeys(table["contender"]))].reset_index())
    say(f"scores, table and picture are in {out}")
