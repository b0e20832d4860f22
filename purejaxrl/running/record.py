"""The record of a run: `OUT/run.json`, which says what the run is, and `OUT/.lock`.

The record keeps one run from being continued as another, and two processes from writing one folder.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import code_of, fingerprint, is_named, module_name
from purejaxrl.running import checkpoint
from purejaxrl.running.evaluate import Evaluator
from purejaxrl.running.metrics import EVALUATIONS, METRICS
from purejaxrl.running.population import Population, leaf_name

FORMAT = 2
FILE = "run.json"
SAVED = "saved.json"
"""File that names the newest checkpoint, so that a run whose checkpoints were lost says so."""


class InUse(ValueError):
    """Another process writes the folder."""


def identity(
    algorithm: Algorithm, population: Population, evaluator: Evaluator | None = None
) -> dict[str, Any]:
    """Return what must be equal for a run to be continued, as JSON.

    The number of updates, the devices and the folder are not in it: those may change.
    """
    found = {
        "evaluator": evaluator.name if evaluator else None,
        "config": _describe(algorithm.config),
        "made_of": list(algorithm.made_of),
        "members": [dict(row) for row in population.rows],
        "hypers": _contents(population.hypers, population.is_shared),
        "env_params": _contents(population.env_params),
        "keys": np.asarray(jax.random.key_data(population.keys)).tolist(),
    }
    return json.loads(json.dumps(found))


def folder_of(out: Path, algorithm: Algorithm, population: Population, *also: object) -> str:
    """Name a run's folder by what decides its results, so that no other run is read in its place.

    Args:
        out: the folder's beginning.
        algorithm, population: see `run`.
        also: what else decides the results, such as the number of updates.

    Returns:
        `OUT-DIGEST`, with 12 hexadecimal digits.
    """
    decisive = _digest(json.dumps(identity(algorithm, population), sort_keys=True))
    return f"{out}-{_digest(' '.join(map(str, (decisive, *also))))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _describe(value: Any) -> Any:
    """Write a config as JSON, the types of nested configs included."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: _describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": f"{module_name(type(value))}.{type(value).__qualname__}"} | fields
    if isinstance(value, (list, tuple)):
        return [_describe(x) for x in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _contents(tree: Any, is_shared: Any = None) -> dict[str, Any]:
    """Write leaves `[num_members, ...]` by name: numbers as they are, arrays hashed."""
    is_shared = is_shared or jax.tree.map(lambda _: False, tree)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        leaf_name(path): (
            np.asarray(leaf).tolist() if np.ndim(leaf) == 1 and not shared else fingerprint(leaf)
        )
        for (path, leaf), shared in zip(leaves, jax.tree.leaves(is_shared), strict=True)
    }


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a run's folder for this process; the system frees it when the process ends.

    On a file system without locks it only warns.

    Raises:
        InUse: if another process holds it, naming that process.
        ValueError: if it cannot be written.
    """
    lock = out / ".lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ValueError(f"out: {out} cannot be written: {error}") from error
    try:
        _lock(descriptor, lock)
        holder = f"process {os.getpid()} on {socket.gethostname()}\n"
        if lock.read_text() != holder:
            lock.write_text(holder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, lock: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InUse(
            f"out: {lock.parent} is being written by another run ({lock.read_text().strip()}); "
            "wait for it, or choose another folder"
        ) from error
    except OSError as error:
        warnings.warn(
            f"out: {lock.parent} is on a file system without locks ({error}); nothing keeps a "
            "second process out",
            stacklevel=5,
        )


def saved(out: Path) -> list[str]:
    """Name what a run has saved in a folder: nothing until its first chunk is done."""
    folders = ("checkpoints", METRICS, EVALUATIONS)
    found = [name for name in folders if any((out / name).glob("*"))]
    return [SAVED] * (out / SAVED).exists() + found


def claim(out: Path, resume: bool, identity: dict, **about: Any) -> None:
    """Make `out` the folder of this run, or check that it already is.

    A run that has saved nothing is replaced: its start failed, or was stopped.

    Args:
        out: the folder; it exists.
        resume: whether a run that is there may be continued.
        identity: what `identity` returned.
        about: what else to keep in the record, for people and for `--resume`.

    Raises:
        ValueError: if `out` holds a run and `resume` is off, holds another run, or cannot be
            written; if its record is missing or damaged; or if a part of the run has no name.
    """
    unnamed = next((part for part in identity["made_of"] if not is_named(part)), "")
    why = f"{unnamed} has no name that tells it from other parts; give it a `name` attribute"
    left = saved(out)
    if left and (out / FILE).exists():
        kept = read(out)
        if not resume:
            require_free(out)
        difference = first_difference(kept["identity"], identity)
        if difference:
            raise ValueError(f"out: {out} holds another run: {difference}")
        if unnamed:
            raise ValueError(f"out: {out} cannot be resumed: {why}")
        _warn_of_change(kept, about.get("layout"))
        _warn_of_code(out, kept)
        return
    if left:
        raise ValueError(
            f"out: {out} holds {' and '.join(left)} of a run whose {FILE} is missing, so it cannot "
            f"be resumed; put {FILE} back, or choose another folder"
        )
    if unnamed:
        warnings.warn(f"this run cannot be resumed: {why}", stacklevel=3)
    record = {"format": FORMAT, "identity": identity, "code": _code_of(identity)}
    _write(out, record | {"versions": _versions()} | about)


def _code_of(identity: dict) -> dict[str, str]:
    return code_of(json.dumps([identity["config"], identity["made_of"]]))


def _warn_of_code(out: Path, kept: dict) -> None:
    """Warn if the code of the algorithm or of its parts is not that with which the run began."""
    before, now = kept.get("code", {}), _code_of(kept["identity"])
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        warnings.warn(
            f"the code of {', '.join(changed)} has changed since the run in {out} began, and what "
            "it has saved comes from the code of then; to train anew, give another folder",
            stacklevel=4,
        )


def _versions() -> dict[str, str]:
    return {
        "jax": jax.__version__,
        "platform": jax.default_backend(),
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
    }


def require_free(out: Path) -> None:
    """Raise a ValueError if a folder holds a run that has saved anything."""
    if (out / FILE).exists() and saved(out):
        raise ValueError(
            f"out: {out} already holds a run; continue it with --resume "
            "(RunOptions(resume=True)), or choose another folder"
        )


def renew(out: Path, **about: Any) -> None:
    """Change what the record of a run keeps for people and for `--resume`: `about` of `claim`.

    Its versions become those of today.

    Raises:
        ValueError: if the record is damaged or cannot be written.
    """
    _write(out, read(out) | {"versions": _versions()} | about)


def _write(out: Path, kept: dict[str, Any]) -> None:
    text = json.dumps(kept, indent=1, default=str)
    try:
        if not (out / FILE).exists() or (out / FILE).read_text() != text:
            checkpoint.write_atomically(out / FILE, text)
    except OSError as error:
        raise ValueError(f"out: {out} cannot be written: {error}") from error


def _warn_of_change(kept: dict, layout: dict | None) -> None:
    """Warn if a run is resumed in a way that changes the last bits of sums.

    On a CPU, a group of one member uses a different matrix product than a larger group. On an
    accelerator, groups of different sizes all use different ones.
    """
    before, now = kept.get("versions", {}), _versions()
    words = [
        f"had {name} {before[name]} and goes on with {now[name]}"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]
    if kept.get("layout") and layout:
        one, other = kept["layout"]["group"], layout["group"]
        if one != other and (1 in (one, other) or jax.default_backend() != "cpu"):
            words.append(f"had {one} members at a time on a device and goes on with {other}")
    for changed in words:
        warnings.warn(
            f"the run {changed}: it will not be bit for bit what an unbroken run is", stacklevel=4
        )


def read(out: Path) -> dict[str, Any]:
    """Read the record of a run.

    Raises:
        ValueError: if there is none, or it is damaged or of another format.
    """
    path = out / FILE
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"out: {out} holds no run (it has no {FILE})") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it to resume the run") from error
    if not isinstance(kept, dict) or not isinstance(kept.get("identity"), dict):
        raise ValueError(f"{path} is damaged (it has no identity); restore it to resume the run")
    if kept.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {kept.get('format', 1)}, and this version reads {FORMAT}: "
            "the run was made by another version of this library, which can resume it"
        )
    return kept


def first_difference(before: Any, now: Any, path: str = "") -> str:
    """Say where two JSON values first differ, as `config.num_envs was 4, now 8`; "" if nowhere."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            inner = f"{path}.{key}" if path else key
            found = first_difference(before.get(key), now.get(key), inner)
            if found:
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (a, b) in enumerate(zip(before, now, strict=True)):
            found = first_difference(a, b, f"{path}[{i}]")
            if found:
                return found
        return ""
    a, b = json.dumps(before), json.dumps(now)
    return "" if a == b else f"{path} was {_excerpt(a, b)}, now {_excerpt(b, a)}"


def _excerpt(text: str, other: str) -> str:
    """Cut a long text to where it first differs from another."""
    before, length = 40, 120
    if len(text) <= length:
        return text
    pairs = enumerate(zip(text, other, strict=False))
    differs = next((i for i, (a, b) in pairs if a != b), min(len(text), len(other)))
    start = max(0, differs - before)
    cut = text[start : start + length]
    return ("…" if start else "") + cut + ("…" if start + length < len(text) else "")
