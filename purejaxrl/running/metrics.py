"""The metrics of a run on disk: Parquet parts that are checked when they are read.

The part `part-<first>-<last>-<checksum>.parquet` holds the rows of updates first + 1 to last. Its
name carries the SHA-256 of its bytes, so a damaged part is found, and so is a missing one.
`pandas.read_parquet(folder)` reads all parts as one table, without these checks.

Each chunk adds a part. Ten parts of similar size are merged into one, so there are never many. A
part appears by a rename, whole or not at all, and a merged part appears before the parts that it
replaces are removed. If the run is killed in between, `read_metrics` ignores the parts that lie
within the merged one, and they are removed when the run is resumed; until then
`pandas.read_parquet` reads their rows twice.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from purejaxrl.running.checkpoint import CheckpointError, Series, local_path, read_manifest

METRICS = "metrics"
EVALUATIONS = "evaluations"
"""Folders of a run."""

NAME = re.compile(r"part-(\d{10,})-(\d{10,})-([0-9a-f]{16})\.parquet")
MERGED = 10
"""Parts of similar size that are merged into one."""
ROW_GROUP = 2**16
"""Rows that a merge holds in memory at a time, and rows of a row group in a merged part."""

ENCODING = {"use_dictionary": False, "write_statistics": False}
"""Metrics hardly repeat a value: without dictionaries they are written faster, and are smaller."""


class MetricsError(ValueError):
    """Metrics that are damaged or missing; the message says which, and what to do."""


class Part(NamedTuple):
    """A file of metrics: the rows of updates `first + 1` to `last`."""

    path: Path
    first: int
    last: int
    checksum: str

    @property
    def digits(self) -> int:
        """How many digits its number of updates has: parts of equal `digits` are merged."""
        return len(str(self.last - self.first))


class MetricsStore:
    """The metrics of one run, in a folder of parts that is added to, read and rewound."""

    def __init__(self, folder: Path | str):
        """Store parts in this folder; it is made when the first one is written."""
        self.folder = local_path(folder)
        self._scratch = self.folder / ".partial"

    def __call__(self, table: pa.Table, done: int) -> None:
        """Write a chunk's table as a part, then merge parts if there are ten of similar size.

        Args:
            table: what `tabulate` returned.
            done: how many updates were done before these.

        Raises:
            OSError: if it cannot be written.
            MetricsError: if a part to be merged is damaged or missing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, **ENCODING)
        content = buffer.getvalue()
        self._scratch.write_bytes(content)
        last = pc.max(table["update"]).as_py()
        self._publish(done, last, hashlib.sha256(content).hexdigest())
        self._merge()

    def rewind(self, update: int) -> None:
        """Drop the rows after this update: the run will write them again.

        Raises:
            OSError: if it cannot be written.
            MetricsError: if a part with rows before and after `update` is damaged.
        """
        parts, leftovers = self._list()
        for part in leftovers:
            part.path.unlink()
        for part in reversed(parts):  # from the end, so that a kill leaves no gap
            if part.first >= update:
                part.path.unlink()
            elif part.last > update:
                self._rewrite([part], update)
        self._scratch.unlink(missing_ok=True)

    def resume_from(self, update: int) -> None:
        """Check the rows up to this update, and drop those after it.

        Raises:
            OSError: if it cannot be written.
            MetricsError: naming the damaged part or the missing updates.
        """
        self.check(update)
        self.rewind(update)

    def check(self, update: int) -> None:
        """Check that the rows up to this update are there, and whole.

        Raises:
            MetricsError: naming the damaged part or the missing updates.
        """
        parts = [part for part in self._list()[0] if part.first < update]
        self._require_consecutive(parts, 0, update)
        for part in parts:
            _verify(part)

    def read(self, update: int = 0) -> pd.DataFrame:
        """Read all rows, sorted by member and update, after checking every part.

        Args:
            update: rows up to this update at least must be there.

        Raises:
            MetricsError: naming the damaged part or the missing updates.
        """
        try:
            return self._read(update)
        except (MetricsError, FileNotFoundError):
            return self._read(update)  # a run at work may have merged parts in the meantime

    def _read(self, update: int) -> pd.DataFrame:
        parts, _ = self._list()
        if not parts:
            raise MetricsError(f"metrics in {self.folder}: there are none")
        self._require_consecutive(parts, 0, max(update, parts[-1].last))
        tables = []
        for part in parts:
            _verify(part)
            with pq.ParquetFile(part.path) as file:
                tables.append(file.read())
        frame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        return frame.sort_values(["member", "update"], ignore_index=True)

    def _list(self) -> tuple[list[Part], list[Part]]:
        """List the parts in order, and then the leftovers: parts whose rows a larger part holds."""
        found = []
        for path in self.folder.glob("*.parquet"):
            match = NAME.fullmatch(path.name)
            if match is None:
                raise MetricsError(
                    f"metrics {path}: is not a part that this version wrote; move it elsewhere "
                    "(pandas.read_parquet reads it, unchecked)"
                )
            found.append(Part(path, int(match[1]), int(match[2]), match[3]))
        parts: list[Part] = []
        leftovers: list[Part] = []
        for part in sorted(found, key=lambda part: (part.first, -part.last)):
            within = parts and part.last <= parts[-1].last
            (leftovers if within else parts).append(part)
        return parts, leftovers

    def _require_consecutive(self, parts: list[Part], first: int, last: int) -> None:
        """Raise a MetricsError unless parts hold each update after `first` up to `last` once."""
        done = first
        for part in parts:
            if part.first > done:
                raise self._missing(done, part.first)
            if part.first < done:
                raise MetricsError(
                    f"metrics {part.path}: holds updates {part.first + 1} to {part.last}, some of "
                    "which another part holds too; move one of them elsewhere"
                )
            done = part.last
        if done < last:
            raise self._missing(done, last)

    def _missing(self, first: int, last: int) -> MetricsError:
        return MetricsError(
            f"metrics in {self.folder}: updates {first + 1} to {last} are missing; {_remedy(first)}"
        )

    def _merge(self) -> None:
        """Merge the newest parts where ten of them have the same number of digits."""
        parts, _ = self._list()
        for digits in range(1, max(part.digits for part in parts) + 1):
            newest = list(takewhile(lambda part: part.digits <= digits, reversed(parts)))[::-1]  # noqa: B023
            if sum(part.digits == digits for part in newest) >= MERGED:
                self._rewrite(newest, newest[-1].last)
                return

    def _rewrite(self, parts: list[Part], last: int) -> None:
        """Replace consecutive parts by one with their rows up to update `last`."""
        self._require_consecutive(parts, parts[0].first, last)
        for part in parts:
            _verify(part)  # a new checksum must not cover old damage
        try:
            with open(self._scratch, "wb") as file:
                _write_rows(file, parts, last)
                file.flush()
                os.fsync(file.fileno())  # before the parts that it replaces are removed
        except OSError:
            self._scratch.unlink(missing_ok=True)
            raise
        self._publish(parts[0].first, last, _checksum(self._scratch))
        for part in parts:
            part.path.unlink()

    def _publish(self, first: int, last: int, checksum: str) -> None:
        """Rename the scratch file to the part that it is."""
        name = f"part-{first:010d}-{last:010d}-{checksum[:16]}.parquet"
        self._scratch.replace(self.folder / name)


def read_metrics(out: Path | str) -> pd.DataFrame:
    """Read the metrics of a run's folder as one table, sorted by member and update.

    Raises:
        MetricsError: if the folder holds no run, a part is damaged, or updates before the newest
            checkpoint are missing.
    """
    out = local_path(out)
    if not (out / METRICS).is_dir():
        inside = ", ".join(sorted(path.parent.name for path in out.glob(f"*/{METRICS}")))
        hint = f"; its folders with runs are {inside}" if inside else ""
        raise MetricsError(f"{out}: {'holds no run' if out.is_dir() else 'does not exist'}{hint}")
    return MetricsStore(out / METRICS).read(_saved(out).get("update", 0))


def read_evaluations(out: Path | str) -> pd.DataFrame:
    """Read the evaluations of a run's folder, as `read_metrics`; empty if there are none."""
    out = local_path(out)
    if not any((out / EVALUATIONS).glob("*.parquet")):
        return pd.DataFrame()
    return MetricsStore(out / EVALUATIONS).read(_saved(out).get("evaluated", 0))


def _saved(out: Path) -> dict[str, Any]:
    """Return what the newest checkpoint says about itself; nothing if there is none."""
    saved = Series(out / "checkpoints")
    for update in reversed(saved.updates()):
        try:
            return read_manifest(saved.path(update))["info"]
        except CheckpointError:
            continue
    return {}


def _write_rows(target: BinaryIO, parts: Sequence[Part], last: int) -> None:
    """Write the rows of parts up to update `last`, holding about `ROW_GROUP` rows at a time."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(pq.ParquetFile(part.path)) for part in parts]
        schemas = [file.schema_arrow for file in files]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        writer = stack.enter_context(pq.ParquetWriter(target, schema, **ENCODING))
        held = [schema.empty_table()]
        for part, file in zip(parts, files, strict=True):
            for i in range(file.num_row_groups):
                rows = file.read_row_group(i, use_threads=False)
                held.append(rows if part.last <= last else rows.filter(pc.field("update") <= last))
                if sum(table.num_rows for table in held) >= ROW_GROUP:
                    writer.write_table(pa.concat_tables(held, promote_options="permissive"))
                    held = held[:1]
        if len(held) > 1:
            writer.write_table(pa.concat_tables(held, promote_options="permissive"))


def _verify(part: Part) -> None:
    if _checksum(part.path)[:16] != part.checksum:
        raise MetricsError(
            f"metrics {part.path}: damaged (its checksum does not match); it holds updates "
            f"{part.first + 1} to {part.last}; {_remedy(part.first)}"
        )


def _remedy(update: int) -> str:
    return (
        f"restore them from a copy, or remove the checkpoints after update {update} (and "
        "saved.json, if none is left) and resume, to train from there again"
    )


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
