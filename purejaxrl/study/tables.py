"""Tables and pictures of comparisons, with intervals over rules and agents.

These functions read the scores that `compare` returns: a row for each environment, contender, rule
and agent. A contender may have several rules that were learned alike. Every rule meets every agent
(its seed and level), so both count in the intervals (`stats.interval`).
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
from rich.table import Table

from purejaxrl.running.logs import console, say
from purejaxrl.study.stats import PROBABILITY, UNBOUNDED, Bounds, Estimate, interval
from purejaxrl.validation import require_known

LEAST_OPTIMUM = 1e-3
"""Levels with a smaller optimum are left out of fractions of the optimum."""


def tabulate(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Tabulate mean scores, also as fractions of the optimum, and the chance to beat a contender.

    `return` is the mean return of training in the last part of life, by sampled actions, and
    `greedy` that of the final policy's most likely actions.

    Where every agent has its own level, contenders are compared level by level; otherwise, any
    agent with any other. Agents that diverged or finished no episode are left out of the means,
    and lose every comparison in the chances. `agents` is the number of agents in the mean return,
    and `diverged` the number of agents that diverged.

    Args:
        scores: what `compare` returns, of one or more environments.
        baseline: the contender that the others are compared with; without it, there are no chances.
    """
    rows = []
    for (env, name), part in scores.groupby(["env", "contender"], sort=False):
        row = {"env": env, "contender": name, "rules": part["rule"].nunique()}
        row["tuned to"] = " / ".join(part["hyperparameters"].unique())
        row |= {"tried": part["tried"].max(), "return": describe(by_agent(part))}
        if part["greedy"].notna().any():
            row["greedy"] = describe(by_agent(part, "greedy"))
        if part["optimum"].notna().any():
            solvable = part[part["optimum"] > LEAST_OPTIMUM]
            ratio = solvable.assign(score=solvable["score"] / solvable["optimum"])
            row["of the optimum"] = describe(by_agent(ratio))
        other = scores[(scores["env"] == env) & (scores["contender"] == baseline)]
        if len(other) and name != baseline:
            wins = chance_to_win(by_agent(part), by_agent(other), bool(part["own_level"].all()))
            row[f"P(better than {baseline})"] = describe(wins, PROBABILITY)
        row["agents"] = int(np.isfinite(part["score"]).sum())
        rows.append(row | {"diverged": int((~part["alive"]).sum())})
    return pd.DataFrame(rows)


def by_agent(scores: pd.DataFrame, column: str = "score") -> np.ndarray:
    """Return one contender's scores as `[num_agents, num_rules]`; NaN: there is none."""
    return scores.pivot(index="agent", columns="rule", values=column).to_numpy()


def chance_to_win(x: np.ndarray, y: np.ndarray, by_level: bool) -> np.ndarray:
    """Compare every rule with every other: 1 where it is better, 0.5 where equal, 0 where worse.

    Args:
        x, y: scores `[num_agents, num_rules]`.
        by_level: compare the agents of one index, which have the same level; otherwise all pairs.

    Returns:
        `[num_agents, rules of x, rules of y]`, or `[agents of x, agents of y, rules of x, rules of
        y]`. An agent without a score, because it diverged or finished no episode, loses against
        every score.
    """
    x, y = (np.where(np.isnan(scores), -np.inf, scores) for scores in (x, y))
    if not by_level:
        x, y = x[:, None], y[None, :]
    x, y = x[..., :, None], y[..., None, :]
    return 0.5 * (1.0 + (x > y) - (x < y))


def describe(scores: np.ndarray, bounds: Bounds = UNBOUNDED) -> str:
    """Write the mean of scores with its interval, or "none" without scores."""
    found = estimate(scores, bounds)
    return str(found) if found else "none"


def estimate(scores: np.ndarray, bounds: Bounds = UNBOUNDED) -> Estimate | None:
    """Estimate the mean of the scores that are there; None without scores."""
    present = np.isfinite(scores)
    return interval(scores, present=present, bounds=bounds) if present.any() else None


def format_estimates(value: Iterable, low: Iterable, high: Iterable) -> list[str]:
    """Write estimates with their intervals; "" where there is none (NaN)."""
    found = itertools.starmap(Estimate, zip(value, low, high, strict=True))
    return ["" if np.isnan(one.value) else str(one) for one in found]


def show(table: pd.DataFrame) -> None:
    """Print a table of `tabulate`, one environment after the other.

    To fit a terminal, `tried` is left out, `rules` where every contender has one, and `diverged`
    where no agent did.
    """
    for env, part in table.groupby("env", sort=False):
        part = part.drop(columns=["env", "tried"]).dropna(axis="columns", how="all")
        usual = [
            name for name, value in (("rules", 1), ("diverged", 0)) if (part[name] == value).all()
        ]
        lines = part["tuned to"].str.replace("=", " ").str.replace(",", "\n")
        print_table(part.drop(columns=usual).assign(**{"tuned to": lines}), title=env)


def print_table(table: pd.DataFrame, title: str = "") -> None:
    """Print any table."""
    shown = Table(title=title or None)
    for name in table.columns:
        shown.add_column(name, no_wrap=name == "tuned to")
    for row in table.fillna("").itertuples(index=False):
        shown.add_row(*map(str, row))
    console.print(shown)


def report(scores: pd.DataFrame, baseline: str, out: Path | str) -> pd.DataFrame:
    """Write `scores.csv`, `table.csv` and `scores.png` to OUT, and print the table.

    Args:
        scores, baseline: see `tabulate`.
        out: the folder.

    Returns:
        The table.

    Raises:
        ValueError: if the baseline is not among the contenders.
    """
    require_known("baseline", baseline, set(scores["contender"]))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    scores.to_csv(out / "scores.csv", index=False)
    table = tabulate(scores, baseline)
    table.to_csv(out / "table.csv", index=False)
    draw(scores, out / "scores.png")
    show(table)
    say(f"scores, table and pictures are in {out}")
    return table


def draw(scores: pd.DataFrame, path: Path) -> None:
    """Draw mean scores with intervals, and the mean of every rule, a panel per environment."""
    names = list(dict.fromkeys(scores["env"]))
    labels = list(dict.fromkeys(scores["contender"]))
    figure = matplotlib.figure.Figure(
        figsize=(1.4 + (0.8 + 0.35 * len(labels)) * len(names), 3.4), layout="constrained"
    )
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for i, label in enumerate(labels):
            part = scores[(scores["env"] == name) & (scores["contender"] == label)]
            found = estimate(by_agent(part)) if len(part) else None
            if found is None:
                continue
            spread = [[found.value - found.low], [found.high - found.value]]
            axes.errorbar([i], [found.value], spread, fmt="o", capsize=4, color="tab:blue")
            each = part.groupby("rule")["score"].mean().dropna()
            if part["rule"].nunique() > 1:
                axes.plot([i] * len(each), each, "k.", ms=4, alpha=0.6)
        axes.set(title=name, xlim=(-0.5, len(labels) - 0.5))
        axes.set_xticks(range(len(labels)), labels, rotation=60)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("return in the last fifth of life", fontsize=9)
    figure.savefig(path, dpi=150)
