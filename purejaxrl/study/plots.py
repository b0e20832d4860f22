"""Pictures of runs: learning curves with intervals, and heat maps over hyperparameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import numpy as np
import pandas as pd

from purejaxrl.study.stats import final_scores, interval, mean_over_episodes
from purejaxrl.validation import require_known

MAX_BANDS = 6
"""Lines in one panel up to which their intervals are drawn; more would hide each other."""


def curves(
    frame: pd.DataFrame,
    by: str | Sequence[str] = (),
    metric: str = "return",
    num_points: int = 60,
) -> pd.DataFrame:
    """Average a metric over members, along training.

    Args:
        frame: a run's metrics.
        by: columns that tell groups apart, such as a swept hyperparameter.
        metric: a mean over finished episodes; weighted by their number.
        num_points: along the curve; updates are binned.

    Returns:
        Columns `*by`, `env_steps`, `mean`, `low`, `high` (95 %, over members), `members`. If the
        frame has a column `rule`, every rule has a member of every index, and the interval treats
        both rules and members as random samples.

    Raises:
        ValueError: if the frame lacks a column.
    """
    by = [by] if isinstance(by, str) else list(by)
    _require_columns(frame, *by, metric)
    last = frame["update"].max()
    if "alive" in frame:  # the last good policy of a member that diverged is still evaluated
        frame = frame[frame["alive"]]
    edges = np.unique(np.linspace(0, last, num_points + 1).astype(int))
    frame = frame.assign(rule=frame.get("rule", 0), bin=np.searchsorted(edges, frame["update"]))
    groups = [*by, "bin", "member", "rule"]
    binned = frame.groupby(groups, sort=False, dropna=False)[["env_steps"]].max()
    binned["score"] = mean_over_episodes(frame, groups, metric)
    binned = binned.dropna().reset_index()  # NaN: no episode finished
    rows = []
    for group, part in binned.groupby([*by, "bin"], dropna=False):
        scores = part.pivot(index="member", columns="rule", values="score").to_numpy()
        estimate = interval(scores, present=np.isfinite(scores))
        rows.append((*group[:-1], part["env_steps"].max(), *estimate, len(part)))
    numbers = ["env_steps", "mean", "low", "high", "members"]
    return pd.DataFrame(rows, columns=[*by, *numbers]).astype(dict.fromkeys(numbers, float))


def learning_curves(
    frame: pd.DataFrame,
    path: Path | str,
    *,
    by: str | Sequence[str] = (),
    title: str = "",
) -> pd.DataFrame:
    """Draw the mean learning curve of every group, with its 95 % interval over members.

    Two columns to group by make small multiples: a panel for each value of the first. The interval
    of two members is so wide that the axis is cut one range of the means above and below them.

    Writes the picture to `path` and the curve's data beside it as CSV; returns the data. Arguments
    and errors as in `curves`.
    """
    by = [by] if isinstance(by, str) else list(by)
    data = curves(frame, by)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")

    panel_by, line_by = (by[:1], by[1:]) if len(by) == 2 else ((), by)
    lowest, highest = data["mean"].min(), data["mean"].max()
    room = highest - lowest
    drawn = data.assign(
        low=data["low"].clip(lower=lowest - room), high=data["high"].clip(upper=highest + room)
    )
    panels, styles = _groups(drawn, panel_by), _styles(_groups(drawn, line_by))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = matplotlib.figure.Figure(
        figsize=(3.2 * columns + 3.8, 2.6 * rows + 1.4), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (name, part) in zip(grid, panels, strict=False):
        _draw_panel(axes, _groups(part, line_by), styles)
        axes.set_title(name, fontsize=9)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(_plain(f"{title} (no episode finished)" if data.empty else title), fontsize=11)
    figure.supxlabel("environment steps per agent", fontsize=10)
    figure.supylabel("return", fontsize=10)
    if not data.empty:
        handles = [matplotlib.lines.Line2D([], [], **style) for style in styles.values()]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    return data


def _groups(data: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Split a table by columns; groups are named by their values."""
    if not by or data.empty:
        return [("", data)]
    named = []
    for values, part in data.groupby(list(by), dropna=False, sort=True):
        words = (f"{v:g}" if isinstance(v, float) else f"{v}" for v in values)
        pairs = zip(by, words, strict=True)
        named.append((_plain(", ".join(f"{name} {word}" for name, word in pairs)), part))
    return named


def _styles(lines: list[tuple[str, pd.DataFrame]]) -> dict[str, dict[str, Any]]:
    """Choose the colour and the label of each line, equal in all panels."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(lines)))
    return {
        name: {"color": color, "label": f"{name} ({part['members'].max():.0f} members)".strip()}
        for color, (name, part) in zip(colors, lines, strict=True)
    }


def _draw_panel(
    axes: matplotlib.axes.Axes,
    lines: list[tuple[str, pd.DataFrame]],
    styles: dict[str, dict[str, Any]],
) -> None:
    for name, part in lines:
        axes.plot(part["env_steps"], part["mean"], **styles[name])
        if len(styles) <= MAX_BANDS:
            color = styles[name]["color"]
            axes.fill_between(
                part["env_steps"], part["low"], part["high"], color=color, alpha=0.2, lw=0
            )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _plain(text: str) -> str:
    """Escape what matplotlib would take for mathematics."""
    return text.replace("$", r"\$")


def _require_columns(frame: pd.DataFrame, *names: str) -> None:
    for name in names:
        require_known("column", name, frame.columns)


def heat_map(frame: pd.DataFrame, path: Path | str, *, x: str, y: str) -> pd.DataFrame:
    """Draw the final return over two swept columns.

    Returns:
        The table that is drawn; without any score, nothing is.

    Raises:
        ValueError: if the frame lacks a column.
    """
    _require_columns(frame, x, y)
    members = frame.groupby("member")[[x, y]].first()
    members["score"] = final_scores(frame)
    table = members.pivot_table(index=y, columns=x, values="score", dropna=False)
    if table.isna().all(axis=None):
        return table
    figure = matplotlib.figure.Figure(
        figsize=(1.8 + 0.9 * table.shape[1], 1.4 + 0.5 * table.shape[0]), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(table.to_numpy(), aspect="auto", origin="lower", cmap="Blues")
    middle = np.nanmean(image.get_clim())
    axes.set(xlabel=x, ylabel=y, title="final return")
    axes.set_xticks(range(table.shape[1]), [f"{v:g}" for v in table.columns])
    axes.set_yticks(range(table.shape[0]), [f"{v:g}" for v in table.index])
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            color = "white" if value > middle else "black"
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return table
