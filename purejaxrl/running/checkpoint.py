"""Checkpoints: a pytree saved by orbax, and a manifest with the checksum of every file.

Orbax loads a file with a flipped bit without an error, so checksums are compared before it reads.
The manifest is written last: a folder without a valid manifest is not a checkpoint.
"""

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from purejaxrl.identity import is_key, on_host
from purejaxrl.running import processes

MANIFEST = "manifest.json"
FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message says which one and why."""


def save(folder: Path | str, tree: Any, info: dict | None = None) -> None:
    """Save a pytree of arrays; an interrupted save leaves nothing that looks like a checkpoint.

    Where several processes train together, all must call it, on one file system.

    Args:
        folder: where to; replaced if it exists, and `~` is the home folder.
        tree: arrays, typed keys included; they are copied to the host.
        info: JSON to keep in the manifest.

    Raises:
        CheckpointError: if the folder cannot be written; what was there before is kept.
        processes.Lost: if another process of the run has ended; what was there before is kept.
    """
    folder = local_path(folder)
    scratch = folder.with_name(f".{folder.name}.partial")
    try:
        with processes.lost_in_words():
            processes.on_first(_make_empty, scratch)
            leaves = jax.tree.leaves(tree)
            arrays = {str(i): on_host(x) for i, x in enumerate(leaves) if x.size}
            with _without_wildcards(scratch) as plain:
                ocp.save(plain / "tree", arrays)
            manifest = {"format": FORMAT, "info": info or {}, "leaves": _describe(tree)}
            processes.on_first(_publish, scratch, manifest, folder)
    except (OSError, ValueError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise CheckpointError(f"checkpoint {folder}: could not be written: {error}") from error


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _publish(scratch: Path, manifest: dict[str, Any], folder: Path) -> None:
    """Add the manifest to arrays that were written, and put them in place of the folder."""
    manifest["sha256"] = _checksums(scratch / "tree")
    manifest["self"] = _digest(manifest)
    write_atomically(scratch / MANIFEST, json.dumps(manifest, indent=1))
    old = _replaced(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(scratch, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _replaced(folder: Path) -> Path:
    """Return where a checkpoint is put while another takes its place."""
    return folder.with_name(f".{folder.name}.old")


def _written(folder: Path) -> Path:
    """Return the folder, or what was to be replaced if a kill came before the new one was there."""
    return folder if folder.exists() or not _replaced(folder).exists() else _replaced(folder)


def load(folder: Path | str, like: Any) -> tuple[Any, dict]:
    """Load a checkpoint after verifying every byte of it.

    Args:
        folder: what `save` wrote.
        like: pytree of arrays or `jax.ShapeDtypeStruct`s with the expected shapes and dtypes.

    Returns:
        The pytree, leaves as NumPy arrays (typed keys as such), and the manifest's info.

    Raises:
        CheckpointError: if it is missing, damaged, of another format, or of another shape.
    """
    folder = _written(local_path(folder))
    manifest = read_manifest(folder)
    try:
        found = _checksums(folder / "tree")
    except OSError as error:
        raise CheckpointError(f"checkpoint {folder}: cannot be read: {error}") from error
    if found != manifest["sha256"]:
        raise CheckpointError(f"checkpoint {folder}: damaged (its checksum does not match)")
    expected, structure = jax.tree.flatten(like)
    if manifest["leaves"] != _describe(like):
        raise CheckpointError(
            f"checkpoint {folder}: holds other arrays than asked for: "
            + _first_difference(manifest["leaves"], _describe(like))
        )
    try:
        with _without_wildcards(folder) as plain, _alone():
            flat = ocp.load(plain / "tree")
    except Exception as error:
        raise CheckpointError(f"checkpoint {folder}: cannot be read: {error}") from error
    leaves = [
        _from_host(flat[str(i)], x) if x.size else np.zeros(x.shape, x.dtype)
        for i, x in enumerate(expected)
    ]
    return jax.tree.unflatten(structure, leaves), manifest["info"]


def read_manifest(folder: Path | str) -> dict:
    """Read a checkpoint's manifest.

    Raises:
        CheckpointError: if there is none, or it is of another format.
    """
    path = _written(local_path(folder)) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {folder}: has no readable manifest") from error
    if version != FORMAT:
        raise CheckpointError(
            f"checkpoint {folder}: format {version} is not valid; this version reads {FORMAT}"
        )
    if manifest.pop("self", None) != _digest(manifest):
        raise CheckpointError(f"checkpoint {folder}: damaged (its manifest does not match)")
    return manifest


class Series:
    """The latest checkpoints of one run, `folder/<update>`."""

    def __init__(self, folder: Path | str, keep_last: int = 2):
        """Keep `keep_last` checkpoints."""
        if keep_last < 1:
            raise ValueError(f"keep_last: {keep_last} is not valid; it must be an integer >= 1")
        self.folder = local_path(folder)
        self.keep_last = keep_last

    def updates(self) -> list[int]:
        """Return the updates that have a checkpoint, whole or damaged, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def path(self, update: int) -> Path:
        """Return the folder of this update's checkpoint."""
        return self.folder / f"{update:010d}"

    def save(self, update: int, tree: Any, info: dict) -> None:
        """Save; then remove old checkpoints. All processes must call it."""
        save(self.path(update), tree, {**info, "update": update})
        processes.on_first(self._remove_old)

    def _remove_old(self) -> None:
        for old in self.updates()[: -self.keep_last]:
            shutil.rmtree(self.path(old), ignore_errors=True)

    def remove_after(self, update: int) -> None:
        """Remove the checkpoints that are newer than the loaded one; the run makes them again."""
        for later in self.updates():
            if later > update:
                shutil.rmtree(self.path(later), ignore_errors=True)

    def load_latest(self, like: Any, warn: Callable[[str], None]) -> tuple[Any, dict] | None:
        """Load the newest checkpoint that is whole; warn of each newer one that is damaged.

        Returns:
            The pytree and its info; None if there is no checkpoint.

        Raises:
            CheckpointError: if there are checkpoints, but none can be used.
        """
        updates = self.updates()
        for update in reversed(updates):
            try:
                return load(self.path(update), like)
            except CheckpointError as error:
                warn(f"{error}; trying the one before")
        if updates:
            raise CheckpointError(f"checkpoints in {self.folder}: none of {updates} can be used")
        return None


def local_path(path: Path | str) -> Path:
    """Return the absolute path; `~` is the home folder."""
    return Path(path).expanduser().absolute()


def write_atomically(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    scratch = path.with_name(f".{path.name}.partial")
    with open(scratch, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


@contextlib.contextmanager
def _without_wildcards(folder: Path) -> Iterator[Path]:
    """Yield a path to this folder that holds no `[`, `*` or `?`.

    Orbax looks for its own files with `glob` and does not escape the path: a checkpoint that was
    saved in a folder with brackets could not be read again.
    """
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    processes.require_single(f"a run in {str(folder)!r}, whose name has a wildcard,")
    with tempfile.TemporaryDirectory() as plain:
        link = Path(plain) / "checkpoint"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _alone() -> ocp.Context:
    """Let orbax read in this process without waiting for the others of the run."""
    context = ocp.Context()
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    return context


def _from_host(x: Any, like: Any) -> Any:
    if is_key(like):
        impl = jax.random.key_impl(jax.numpy.empty((), like.dtype))
        return jax.random.wrap_key_data(np.asarray(x), impl=impl)
    return np.asarray(x)


def _describe(tree: Any) -> list:
    return [
        [jax.tree_util.keystr(path), list(x.shape), str(x.dtype)]
        for path, x in jax.tree.leaves_with_path(tree)
    ]


def _digest(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _first_difference(found: list, expected: list) -> str:
    if len(found) != len(expected):
        return f"{len(found)} arrays, not {len(expected)}"
    i = next(i for i in range(len(found)) if found[i] != expected[i])
    return f"array {i} is {found[i]}, not {expected[i]}"


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
