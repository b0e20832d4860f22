"""Tables of metrics: a row per member and update, or per several updates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def tabulate(
    rows: Sequence[dict[str, Any]], metrics: dict[str, np.ndarray], updates: np.ndarray
) -> pa.Table:
    """Lay metrics out as a table, one row per member and update.

    Args:
        rows: what each of the M members sets; they become columns beside `member`.
        metrics: arrays `[M, len(updates)]`.
        updates: int, how many updates were done at each of them; 1 is the first.

    Returns:
        Columns `member`, `update`, the rows' and the metrics'.

    Raises:
        ValueError: if a metric has the name of another column.
    """
    members = len(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        "member": np.repeat(np.arange(members, dtype=np.int32), len(updates)),
        "update": np.tile(updates, members),
    }
    for name in names:
        columns[name] = np.repeat(np.asarray([row.get(name) for row in rows]), len(updates))
    for name, values in metrics.items():
        if name in columns:
            raise ValueError(f"metric {name!r} is not a valid name; a column already has it")
        columns[name] = values.reshape(-1)
    return pa.table(columns)


def average_updates(
    metrics: dict[str, np.ndarray], done: int, every: int, episode_means: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Average the metrics of updates between multiples of `every`.

    Args:
        metrics: arrays `[M, length]`.
        done: how many updates were done before these.
        every: updates in a row; the first and the last row can have fewer.
        episode_means: metrics that are averaged over episodes instead of updates.

    Returns:
        Arrays `[M, num_rows]` and the last update of each row, int `[num_rows]`. `episodes` is the
        sum over a row; `env_steps`, which counts from the start, and `alive` are the last values.
    """
    updates = done + 1 + np.arange(metrics["episodes"].shape[1])
    if every == 1:
        return metrics, updates
    begins = np.flatnonzero((updates - 1) % every == 0)
    begins = begins if begins.size and begins[0] == 0 else np.append(0, begins)
    ends = np.append(begins[1:], len(updates))
    total = lambda x: np.add.reduceat(np.where(np.isnan(x), 0, x), begins, axis=1)  # noqa: E731
    episodes, averaged = metrics["episodes"], {}
    for name, values in metrics.items():
        if name in ("env_steps", "alive"):
            averaged[name] = values[:, ends - 1]
        elif name == "episodes":
            averaged[name] = np.add.reduceat(values, begins, axis=1)
        else:
            counts = np.where(np.isnan(values), 0, episodes if name in episode_means else 1)
            with np.errstate(invalid="ignore"):
                averaged[name] = total(values * counts) / total(counts)
    return averaged, updates[ends - 1]
