"""Scores relative to a baseline's, as GROOVE reports them (Jackson et al. 2023, arXiv 2310.02782).

Two figures for each environment and contender: the share of levels on which a contender earns less
than 75 % of the baseline, and its mean score in units of the baseline's. Where an optimum is known,
scores are fractions of it, so that levels with large rewards do not dominate. Scores are those of
`compare`; every rule meets every level, and both count in the intervals (`stats.interval`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd

from purejaxrl.running.logs import say
from purejaxrl.study.stats import PROBABILITY, UNBOUNDED, Bounds
from purejaxrl.study.tables import (
    LEAST_OPTIMUM,
    by_agent,
    estimate,
    format_estimates,
    print_table,
)

THRESHOLD = 0.75
"""A contender fails on a level where its score is below this fraction of the baseline's."""

FIGURES: Mapping[str, Bounds] = {"share below": PROBABILITY, "relative": UNBOUNDED}
"""The columns of `relate`, with the bounds of their means."""


def share_below(x: np.ndarray, y: np.ndarray, by_level: bool) -> np.ndarray:
    """Say where a contender earns less than 75 % of the baseline.

    Args:
        x: the contender's scores `[num_agents, num_rules]`; -inf where an agent diverged.
        y: the baseline's `[num_agents]`.
        by_level: agents of one index have the same level, so they are compared; otherwise, with the
            baseline's mean.

    Returns:
        `[num_agents, num_rules]`, 1 where it earns less and otherwise 0. NaN: a score is NaN, or
        the baseline earned nothing on the level. Where all agents have one level, an interval of
        these numbers leaves out the error of the baseline's mean.
    """
    y = y if by_level else np.full_like(y, np.nanmean(y))
    known = ~np.isnan(x) & (y > LEAST_OPTIMUM)[:, None]
    return np.where(known, x < THRESHOLD * y[:, None], np.nan)


def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Return numbers whose mean is the contender's mean score over the baseline's.

    With $r = \bar x / \bar y$, they are $r + (x - r y) / \bar y$. They vary to first order as the
    ratio does, so that an interval of their mean is one of the ratio (Cochran 1977, "Sampling
    Techniques", section 6.4). Agents that diverged are left out.

    Args:
        x, y: see `share_below`; agents of one index have the same seed (and level).
    """
    y = np.broadcast_to(y[:, None], x.shape)
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any() or y[both].mean() <= 0:
        return np.full(x.shape, np.nan)
    found = x[both].mean() / y[both].mean()
    return np.where(both, found + (x - found * y) / y[both].mean(), np.nan)


def relate(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Compute both figures for every rule and agent of every contender but the baseline.

    Args:
        scores: what `compare` returns, of one or more environments.
        baseline: the contender in whose units the others' scores are, in every environment.

    Returns:
        Columns `env`, `contender`, `rule`, `agent`, `failed`, `share below` and `relative`.

    Raises:
        ValueError: if an environment has no scores of the baseline.
    """
    parts = []
    for env, part in scores.groupby("env", sort=False):
        if part["optimum"].notna().any():
            part = part[part["optimum"] > LEAST_OPTIMUM]
            part = part.assign(score=part["score"] / part["optimum"])
        others = part[part["contender"] == baseline]
        if others.empty:
            raise ValueError(f"baseline: {baseline!r} is not valid; it has no scores in {env}")
        y = by_agent(others).mean(1)
        for name, own in part[part["contender"] != baseline].groupby("contender", sort=False):
            x = by_agent(own)
            failed = by_agent(own.assign(score=own["score"].where(own["alive"], -np.inf)))
            agent, rule = np.indices(x.shape)
            parts.append(pd.DataFrame({
                "env": env, "contender": name, "rule": rule.ravel(), "agent": agent.ravel(),
                "failed": np.isnan(x).ravel(),
                "share below": share_below(failed, y, bool(own["own_level"].all())).ravel(),
                "relative": ratio(x, y).ravel(),
            }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def tabulate(related: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Tabulate both figures, and every contender's difference from a reference.

    Args:
        related: what `relate` returns.
        reference: a contender; the others are compared with it.

    Returns:
        Columns `env`, `contender`, `rules`, `failed` (how many agents diverged or finished no
        episode), and of each figure `FIGURE`, `FIGURE low`, `FIGURE high`, `FIGURE gain`, `FIGURE
        gain low` and `FIGURE gain high`; a gain is the contender's minus the reference's.
    """
    rows = []
    for (env, name), part in related.groupby(["env", "contender"], sort=False):
        row = {"env": env, "contender": name, "rules": part["rule"].nunique()}
        row["failed"] = part["failed"].sum()
        other = related[(related["env"] == env) & (related["contender"] == reference)]
        for figure, bounds in FIGURES.items():
            x, z = by_agent(part, figure), by_agent(other, figure)
            row |= dict(_columns(figure, x, bounds))
            if name != reference and len(other):
                gain, widest = x[:, :, None] - z[:, None, :], bounds[1] - bounds[0]
                row |= dict(_columns(f"{figure} gain", gain, (-widest, widest)))
        rows.append(row)
    return pd.DataFrame(rows)


def _columns(name: str, values: np.ndarray, bounds: Bounds) -> Iterator[tuple[str, float]]:
    found = estimate(values, bounds) or (np.nan,) * 3
    yield from zip((name, f"{name} low", f"{name} high"), found, strict=True)


def report(scores: pd.DataFrame, baseline: str, reference: str, out: Path) -> pd.DataFrame:
    """Write `relative.csv` and `relative.png` to OUT, and print the table.

    Args:
        scores, baseline: see `relate`.
        reference: see `tabulate`.
        out: the folder.

    Returns:
        The table.
    """
    related = relate(scores, baseline)
    table = tabulate(related, reference)
    table.to_csv(out / "relative.csv", index=False, float_format="%.5g")
    draw(related, table, baseline, out / "relative.png")
    titles = {
        "share below": f"share below {THRESHOLD:.0%} of {baseline}",
        "share below gain": f"minus that of {reference}",
        "relative": f"mean, {baseline} = 1",
        "relative gain": f"mean minus that of {reference}",
    }
    shown = table[["env", "contender", "rules"]].copy()
    for name, title in titles.items():
        if name in table:
            columns = table[name], table[f"{name} low"], table[f"{name} high"]
            shown[title] = format_estimates(*columns)
    for env, part in shown.groupby("env", sort=False):
        print_table(part.drop(columns="env"), title=env)
    say(f"the scores in units of {baseline}'s are in {out / 'relative.csv'}")
    return table


def draw(related: pd.DataFrame, table: pd.DataFrame, baseline: str, path: Path) -> None:
    """Draw both figures with intervals, and the mean of every rule as a point."""
    names = list(dict.fromkeys(table["env"]))
    labels = list(dict.fromkeys(table["contender"]))
    figure = matplotlib.figure.Figure(figsize=(4.6 + 1.2 * len(names), 3.4), layout="constrained")
    words = f"share below {THRESHOLD:.0%} of {baseline}", f"mean score, {baseline} = 1"
    for axes, column, word in zip(figure.subplots(1, 2), FIGURES, words, strict=True):
        for i, label in enumerate(labels):
            part = table[table["contender"] == label]
            x = part["env"].map(names.index) + (i - (len(labels) - 1) / 2) * 0.8 / len(labels)
            spread = part[column] - part[f"{column} low"], part[f"{column} high"] - part[column]
            axes.errorbar(x, part[column], spread, fmt="o", capsize=3, label=label)
            rules = related[related["contender"] == label].groupby(["env", "rule"])[column].mean()
            place = dict(zip(part["env"], x, strict=True))
            axes.plot([place[env] + 0.06 for env, _ in rules.index], rules, "k.", ms=3, alpha=0.6)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xticks(range(len(names)), names, rotation=20, fontsize=8)
        axes.set_ylabel(word)
        axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(1.0, color="grey", lw=0.8)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
