"""Metrics on their way from the device to disk, to a dashboard and to the terminal.

All of it happens between chunks, on the host. A sink is a function of a chunk's table.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Sink = Callable[[pa.Table, int], None]
"""(table of one chunk, first update in it) -> None"""

console = Console(stderr=True)


def tabulate(
    rows: Sequence[dict[str, Any]], metrics: dict[str, np.ndarray], first_update: int
) -> pa.Table:
    """Lay a chunk's metrics out as a table, one row per member and update.

    Args:
        rows: what each of the M members sets; they become columns beside `member`.
        metrics: arrays `[M, updates]`.
        first_update: how many updates were done before the chunk.

    Returns:
        Columns `member`, `update` (1 is the first), the rows' and the metrics'.
    """
    members, updates = next(iter(metrics.values())).shape
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        "member": np.repeat(np.arange(members, dtype=np.int32), updates),
        "update": np.tile(np.arange(first_update + 1, first_update + updates + 1), members),
    }
    for name in names:
        columns[name] = np.repeat(np.asarray([row.get(name) for row in rows]), updates)
    for name, values in metrics.items():
        columns[name] = values.reshape(-1)
    return pa.table(columns)


class ParquetSink:
    """A part per chunk; `pandas.read_parquet(folder)` reads them all as one table."""

    def __init__(self, folder: Path):
        """Write parts into this folder."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, table: pa.Table, first_update: int) -> None:
        """Write a chunk; a part appears whole or not at all."""
        scratch = self.folder / ".partial"
        pq.write_table(table, scratch)
        scratch.replace(self.folder / f"part-{first_update:010d}.parquet")

    def rewind(self, update: int) -> None:
        """Drop the parts that begin at this update or later: they will be written again."""
        for part in self.folder.glob("part-*.parquet"):
            if int(part.stem.removeprefix("part-")) >= update:
                part.unlink()


def tensorboard_sink(folder: Path | str, names: Sequence[str]) -> Sink:
    """Write every member's metrics as a TensorBoard run of its own (needs tensorboardX)."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError("sink 'tensorboard' needs: pip install tensorboardX") from error
    writers = [SummaryWriter(str(Path(folder) / name)) for name in names]

    def write(table: pa.Table, first_update: int) -> None:
        for member, frame in table.to_pandas().groupby("member"):
            numbers = frame.select_dtypes("number").drop(columns=["member", "update"])
            for update, row in zip(frame["update"], numbers.to_dict("records"), strict=True):
                for name, value in row.items():
                    if np.isfinite(value):
                        writers[member].add_scalar(name, value, update)
        for writer in writers:
            writer.flush()

    return write


def wandb_sink(project: str, config: dict[str, Any]) -> Sink:
    """Log the population's mean of every metric to Weights & Biases (needs wandb)."""
    try:
        import wandb
    except ImportError as error:
        raise ImportError("sink 'wandb' needs: pip install wandb") from error
    session = wandb.init(project=project, config=config)

    def write(table: pa.Table, first_update: int) -> None:
        means = table.to_pandas().groupby("update").mean(numeric_only=True).drop(columns="member")
        for update, row in means.iterrows():
            session.log({k: v for k, v in row.items() if np.isfinite(v)}, step=int(update))

    return write


def read_metrics(out: Path | str) -> pd.DataFrame:
    """Read the metrics of a run's folder as one table, sorted by member and update."""
    frame = pd.read_parquet(Path(out) / "metrics")
    return frame.sort_values(["member", "update"], ignore_index=True)


class ProgressLine:
    """Progress with ETA, current return and steps/s: a live bar, or a line now and then."""

    def __init__(self, total_updates: int, done: int, show: bool):
        """Start at `done` of `total_updates`; `show=False` keeps silent."""
        self.total, self.show = total_updates, show
        self.origin: tuple[float, int, int] | None = None  # time, updates, steps after compiling
        self.spoke = time.monotonic()
        self.live = None
        if show and console.is_terminal:
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} updates"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=console,
            )
            self.live.start()
            self.bar = self.live.add_task("compiling", total=total_updates, completed=done)

    def advance(self, done: int, steps: int, mean_return: float) -> None:
        """Say that `done` updates and `steps` environment steps are behind."""
        if not self.show:
            return
        now = time.monotonic()
        began, start, start_steps = self.origin = self.origin or (now, done, steps)
        text, eta = f"return {mean_return:.4g}", ""
        if done > start:  # what the first chunk took was mostly compilation
            elapsed = max(now - began, 1e-9)
            text += f" · {(steps - start_steps) / elapsed:,.0f} steps/s"
            eta = f" · ETA {elapsed / (done - start) * (self.total - done):.0f} s"
        if self.live:
            self.live.update(self.bar, completed=done, description=text)
        elif now - self.spoke > 10 or done == self.total:
            self.spoke = now
            console.print(f"{done}/{self.total} updates · {text}{eta}", markup=False)

    def close(self) -> None:
        """Stop drawing."""
        if self.live:
            self.live.stop()
