"""Sinks: where else a run's metrics go, chunk by chunk, on the host.

A dashboard that fails must not end a run: `DroppableSink` drops it, and the run goes on.
"""

import importlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from purejaxrl.running.checkpoint import local_path, write_atomically
from purejaxrl.running.population import Row, name_of

Sink = Callable[[pa.Table], None]
"""(table of one chunk, or of an evaluation at its end) -> None. It may have a method `close()`."""


class DroppableSink:
    """A sink that is dropped with a warning, once, if it fails."""

    def __init__(self, sink: Sink):
        """Wrap a sink."""
        self.name = getattr(sink, "name", None) or getattr(sink, "__name__", type(sink).__name__)
        self._sink: Sink | None = sink

    def __call__(self, table: pa.Table) -> None:
        """Pass a chunk on, unless the sink was dropped."""
        self._try(self._sink, table)

    def close(self) -> None:
        """Close the sink if it can be closed; nothing is passed on after that."""
        self._try(getattr(self._sink, "close", None))
        self._sink = None

    def _try(self, call: Callable | None, *arguments: Any) -> None:
        if call is None:
            return
        try:
            call(*arguments)
        except Exception as error:
            self._sink = None
            warnings.warn(
                f"sink {self.name!r} failed and is dropped; the run goes on without it: "
                f"{type(error).__name__}: {error}",
                stacklevel=3,
            )


class TensorBoardSink:
    """Writes each member's metrics as a TensorBoard run of its own."""

    name = "tensorboard"

    def __init__(self, folder: Path | str, names: Sequence[str]):
        """Write the member of index i to `folder/names[i]`, from the first chunk on.

        If an earlier process wrote rows from that chunk's first update on, they are hidden, because
        the resumed run writes them again.

        Raises:
            ImportError: if tensorboardX is not installed.
        """
        self._tensorboard = _require("tensorboardX")
        self._folders = [str(local_path(folder) / name) for name in names]
        self._writers: list[Any] = []

    def __call__(self, table: pa.Table) -> None:
        """Write a chunk."""
        if not self._writers:
            first = pc.min(table["update"]).as_py()
            self._writers = [
                self._tensorboard.SummaryWriter(folder, purge_step=first)
                for folder in self._folders
            ]
        for member, update, values in _finite_values(table):
            for name, value in values.items():
                self._writers[member].add_scalar(name, value, update)
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers:
            writer.close()


class WandbSink:
    """Logs each member as a Weights & Biases run of its own, all of them in one group."""

    name = "wandb"

    def __init__(self, project: str, out: str, rows: Sequence[Row], config: dict[str, Any]):
        """Log to W&B runs, which are started or continued at the first chunk.

        Args:
            project: W&B project.
            out: the folder of the run; W&B groups the runs by it. `wandb.json` there keeps their
                ids, so that a resumed run continues them.
            rows: what each member sets; a row names its W&B run and becomes part of its config.
            config: settings that all members share.

        Raises:
            ImportError: if wandb is not installed.
        """
        self._wandb = _require("wandb")
        self._project, self._out, self._rows, self._config = project, out, rows, config
        self._runs: list[Any] = []

    def __call__(self, table: pa.Table) -> None:
        """Log a chunk, with the update as W&B's step; W&B ignores steps before its last."""
        if not self._runs:
            self._start()
        for member, update, values in _finite_values(table):
            self._runs[member].log(values, step=update)

    def _start(self) -> None:
        """Start a W&B run for each member that has none, and continue those of the others."""
        path = local_path(self._out) / "wandb.json"
        ids = json.loads(path.read_text()) if path.exists() else {}
        for row in self._rows:
            name = name_of(row)
            run = self._wandb.init(
                project=self._project,
                group=self._out,
                name=name,
                id=ids.get(name),
                resume="allow",
                config={**self._config, **row},
                reinit="create_new",  # several runs in one process
            )
            self._runs.append(run)
            ids[name] = run.id
        write_atomically(path, json.dumps(ids))

    def close(self) -> None:
        """Finish the W&B runs."""
        for run in self._runs:
            run.finish()


def _finite_values(table: pa.Table) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Yield (member, update, its finite numbers by name) for each row of a chunk's table."""
    frame = table.to_pandas()
    numbers = frame.select_dtypes("number").drop(columns=["member", "update"])
    rows = zip(frame["member"], frame["update"], numbers.to_dict("records"), strict=True)
    for member, update, values in rows:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        yield int(member), int(update), finite


def _require(module: str) -> ModuleType:
    """Import a module that a sink needs.

    Raises:
        ImportError: naming what to install if it is not there; its own error if it is there and
            cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(f"sink {module!r} needs: pip install {module}") from error
