"""Who learns fast, and who learns far: normalised scores along the lives of agents.

These functions read the metrics of the tests that `compare` returns. Scores are scaled as in
`suite.py`: in every environment 0 is a random policy, and 1 is the reference in the last part of
its life.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd

from purejaxrl.study.stats import iqm_interval, mean_over_episodes
from purejaxrl.study.suite import comparable, scale, stack

NUM_PARTS = 5
"""Parts of a life. The returns in the last fifth are also an agent's score."""


def by_part(metrics: pd.DataFrame, num_parts: int = NUM_PARTS) -> pd.DataFrame:
    """Average the returns of every agent over each part of its life.

    Args:
        metrics: metrics of the tests on one problem, as `compare` returns them.
        num_parts: equally many updates in each.

    Returns:
        Columns `contender`, `rule`, `agent`, `part` (1 is the first) and `score`, the mean over
        finished episodes. NaN: none was finished, or the agent diverged at some time.
    """
    agent = ["contender", "rule", "member"]
    last = metrics.groupby(["contender", "rule"])["update"].transform("max")
    part = -(-metrics["update"] * num_parts // last)  # rounded up
    means = mean_over_episodes(metrics.assign(part=part), [*agent, "part"]).unstack("part")
    alive = metrics.groupby(agent, sort=False)["alive"].last()
    means = means.where(alive, axis=0).reindex(columns=range(1, num_parts + 1))
    rows = means.rename_axis(columns="part").stack(future_stack=True).rename("score").reset_index()
    return rows.rename(columns={"member": "agent"})


def normalise(parts: pd.DataFrame, scores: pd.DataFrame, reference: Sequence[str]) -> pd.DataFrame:
    """Scale the scores of all parts as `suite.normalise` scales those of whole lives.

    Args:
        parts: what `by_part` returned, with a column `env`.
        scores, reference: see `suite.normalise`.

    Raises:
        ValueError: see `suite.normalise`.
    """

    def one(name: str, part: pd.DataFrame) -> pd.DataFrame:
        own = scores[scores["env"] == name]
        random, theirs = scale(name, own, reference)
        at_random = part["agent"].map(own.groupby("agent")["random"].first())
        score = part["score"].fillna(at_random)  # a missing score counts as that of random actions
        return part.assign(score=(score - random) / (theirs.mean() - random))

    return pd.concat([one(*each) for each in parts.groupby("env", sort=False)])


def tabulate(parts: pd.DataFrame) -> pd.DataFrame:
    """Tabulate interquartile means over all environments, part by part.

    Args:
        parts: what `normalise` returned.

    Returns:
        Columns `contender`, `part`, `value`, `low`, `high`: the intervals treat agents and
        rules as random samples, and leave out the error of the reference's mean.
    """
    rows = []
    for part, found in parts.groupby("part"):
        for name in dict.fromkeys(found["contender"]):
            estimate = iqm_interval(stack(found, name))
            rows.append({"contender": name, "part": part} | estimate._asdict())
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the interquartile mean of every contender along life.

    Args:
        table: what `tabulate` returned.
        path: the file.
    """
    names, num_parts = list(dict.fromkeys(table["contender"])), table["part"].max()
    figure = matplotlib.figure.Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        part = table[table["contender"] == name]
        place = part["part"] + 0.04 * (i - (len(names) - 1) / 2)  # no bar hides another
        spread = [part["value"] - part["low"], part["high"] - part["value"]]
        axes.errorbar(place, part["value"], spread, marker="o", ms=3, lw=1, label=name)
    axes.axhline(1, color="grey", lw=0.8, ls=":")
    axes.set(
        xticks=np.arange(1, num_parts + 1),
        xlabel=f"part of life, of {num_parts}",
        ylabel="interquartile mean\n(0: random, 1: the reference at the end)",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def report(
    parts: pd.DataFrame, scores: pd.DataFrame, reference: Sequence[str], out: Path
) -> pd.DataFrame:
    """Write `life.csv` and `life.png` to OUT.

    Args:
        parts, scores, reference: see `normalise`. Environments where the reference is not above
            a random policy are left out.
        out: the folder.

    Returns:
        The table.
    """
    out.mkdir(parents=True, exist_ok=True)
    scores = comparable(scores, reference)
    table = tabulate(normalise(parts[parts["env"].isin(scores["env"])], scores, reference))
    table.to_csv(out / "life.csv", index=False, float_format="%.5g")
    draw(table, out / "life.png")
    return table
