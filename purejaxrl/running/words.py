"""The arguments ("words") of a command line: the settings that they ask for, and their runs.

Any value may be a comma-separated list: swept floats of `hypers` become members of one run, and
anything else is looped over. `run.json` keeps the words, so that `--resume` can repeat them.
"""

import dataclasses
import inspect
import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from purejaxrl.running import record
from purejaxrl.running.options import RunOptions

MAY_CHANGE = ("total_steps", "meta_steps", "steps", "generations", "updates", "draws", "run.")
"""Settings that may differ when a run is resumed: its length, and how it runs."""

LISTS = (
    "Any value can be a comma-separated list. Those of hypers become members that train side by "
    "side; those of other flags become runs, one after the other."
)
"""What `--help` says of lists."""


def parse(settings: type, words: Sequence[str]) -> list[Any]:
    """Parse a command line into every combination of its comma-separated values.

    The values of run options, such as `--only learning_rate=0.1,seed=3`, are not split. Settings
    with a class method `recommended(env)` get its defaults for the `--env` of the command line, or
    for another flag by the name of its parameter.

    Returns:
        Instances of `settings`, at least one.
    """
    return [_parse_one(settings, combination) for combination in _combinations(words)]


def _combinations(words: Sequence[str]) -> list[list[str]]:
    """Write a command line out, once for every combination of its comma-separated values."""
    literal = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(RunOptions)}
    choices = []
    for flag, values in _by_flag(words):
        whole = flag in literal
        choices += [[flag]] if flag else []
        choices += [[value] if whole else _split(value) for value in values]
    return [list(combination) for combination in dict.fromkeys(itertools.product(*choices))]


def _by_flag(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Group words as (flag, values); the flag is written with hyphens, and is "" before any."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            groups.append((flag.replace("_", "-"), [value] if equals else []))
        else:
            groups[-1][1].append(word)
    return groups if groups[0][1] else groups[1:]


def _split(value: str) -> list[str]:
    """Split a value at its commas, unless it names a file, such as that of a swept member."""
    parts = value.split(",")
    whole = not all(parts) or (len(parts) > 1 and os.path.exists(os.path.expanduser(value)))
    return [value] if whole else parts


def _parse_one(settings: type, words: list[str]) -> Any:
    recommended = getattr(settings, "recommended", None)
    says = f"{description(settings)}\n\n{LISTS}"
    if recommended is None:
        return tyro.cli(settings, args=words, description=says)
    (choice,) = inspect.signature(recommended).parameters
    named = [values[-1] for flag, values in _by_flag(words) if flag == f"--{choice}" and values]
    default = recommended(named[-1] if named else getattr(settings, choice))
    return tyro.cli(settings, args=words, description=says, default=default)


def description(settings: type) -> str:
    """What `--help` says first: the docstring of the file that declares the settings.

    Its commands get a prompt, without which tyro would join their lines.
    """
    return re.sub(r"^(?=python )", "$ ", sys.modules[settings.__module__].__doc__ or "", flags=re.M)


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Lay nested settings out as `{"hypers.gamma": 0.99, …}`."""
    flat = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{field.name}.")
        else:
            flat[prefix + field.name] = value
    return flat


def varied(parsed: Sequence[Any], words: Sequence[str]) -> list[str]:
    """Name the settings of which the command line gives several values."""
    flat = [flatten(s) for s in parsed]
    names = dict.fromkeys(name for f in flat for name in f)
    flags = {flag.removeprefix("--").replace("-", "_") for flag, _ in _by_flag(words)}
    return [k for k in names if k in flags and any(f.get(k) != flat[0].get(k) for f in flat)]


def _looped(parsed: Sequence[Any], words: Sequence[str]) -> list[str]:
    """Name the settings that are looped over: each combination of them is a run of its own."""
    return [k for k in varied(parsed, words) if not k.startswith("hypers.")]


def by_folder(parsed: Sequence[Any], words: Sequence[str]) -> dict[Path, list[int]]:
    """Group settings that are one run, by its folder: those that differ in `hypers` alone."""
    flat = [flatten(s) for s in parsed]
    looped = _looped(parsed, words)
    groups: dict[str, list[int]] = {}
    for i, f in enumerate(flat):
        label = ",".join(f"{k.split('.')[-1]}={f[k]}" for k in looped)
        groups.setdefault(label.replace("/", "-"), []).append(i)
    folders = {label: parsed[members[0]].run.folder for label, members in groups.items()}
    apart = len(set(folders.values())) == len(groups)
    return {
        folders[label] if apart else folders[label] / label: members
        for label, members in groups.items()
    }


def with_kept_words(settings: type, words: Sequence[str]) -> tuple[str, ...]:
    """Put the words of the run that is to be resumed before those of the command line.

    A run that has saved nothing starts again from the beginning, so anything may differ.

    Args:
        settings: the experiment's.
        words: the arguments of the command line.

    Returns:
        The words, as they are if they do not resume a run that exists.

    Raises:
        ValueError: if the words change a setting that may not change, or name the folder of one of
            several runs.
    """
    words = tuple(words)
    options = _parse_one(settings, _combinations(words)[0]).run  # all have the same run options
    runs = _runs(options.folder) if options.resume else []
    kept = _kept_words(settings, options.folder, runs)
    if kept is None:
        return words
    given = {flag.replace("--no-", "--") for flag, _ in _by_flag(words)}
    merged = []
    for flag, values in _by_flag(kept):
        if flag.replace("--no-", "--") not in given:
            merged += [flag, *values] if flag else values
    merged += words
    if not any(map(record.saved, runs)):
        return tuple(merged)
    before, now = (parse(settings, line) for line in (kept, merged))
    _check_same(list(map(flatten, before)), list(map(flatten, now)), options.folder)
    holds_run, folders = options.folder in runs, by_folder(now, merged)
    if not holds_run and folders.keys().isdisjoint(runs):
        raise ValueError(
            f"out: {options.folder} is not the folder of a run; these are: "
            f"{', '.join(map(str, runs))}"
        )
    if holds_run and options.folder not in folders:
        flags = (f"--{k.replace('_', '-')}" for k in _looped(now, merged))
        raise ValueError(
            f"out: {options.folder} holds one of several runs that were started together; say "
            f"which one by {', '.join(flags)}, or resume all with {' '.join(kept)} --resume"
        )
    return tuple(merged)


def _below(out: Path) -> list[Path]:
    """Return the subfolders that hold runs, the one whose record is newest first."""
    return [
        path.parent
        for path in sorted(out.glob(f"*/{record.FILE}"), key=lambda x: -x.stat().st_mtime)
    ]


def _runs(out: Path) -> list[Path]:
    """Return OUT if it is the folder of a run, or else its subfolders that are.

    A run that has saved nothing counts only where no other has.
    """
    groups = [out] if (out / record.FILE).exists() else [], _below(out)
    saved = ([folder for folder in group if record.saved(folder)] for group in groups)
    return next(filter(None, (*saved, *groups)), [])


def _kept_words(settings: type, out: Path, runs: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the command line of the runs in OUT; None if there are none.

    These may have been resumed one by one, each with words of its own. Then it is the newest
    command line that makes all of them.
    """
    lines = [tuple((record.read(run).get("command") or {}).get("words", ())) for run in runs]
    if len(set(lines)) > 1:
        for line in lines:
            words = [*line, "--out", str(out)]
            if {*runs} <= {*by_folder(parse(settings, words), words)}:
                return line
        raise ValueError(
            f"out: {out} holds runs of {len(set(lines))} command lines; name one of its folders"
        )
    return lines[0] if lines else None


def _check_same(before: list[dict], now: list[dict], out: Path) -> None:
    """Raise a ValueError if a setting that may not change differs from the run's."""

    def changed(a: dict, b: dict) -> list[str]:
        return [k for k in a if a[k] != b.get(k) and not k.startswith(MAY_CHANGE)]

    for settings in now:
        nearest = min(before, key=lambda one: len(changed(settings, one)))
        for name in changed(settings, nearest):
            raise ValueError(
                f"{name}: {settings[name]!r} is not valid; the run in {out} has "
                f"{nearest.get(name)!r}. A run that is resumed may become longer, and keeps all "
                "other settings; for another run, name another folder with --out"
            )
