"""Command lines: from words to settings, and from settings to runs.

An experiment declares its settings as a dataclass that extends `Experiment`, and a `build` that
turns one of them into a `Job`. Any value on the command line may be a comma-separated list: swept
floats of `hypers` become members of one population, anything else is looped over. `run.json` keeps
the words, so that `--resume` can repeat them.
"""

import contextlib
import dataclasses
import importlib
import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import tyro

from purejaxrl.algorithm import Algorithm
from purejaxrl.running import record
from purejaxrl.running.checkpoint import CheckpointError
from purejaxrl.running.evaluate import Evaluator, on_episodes
from purejaxrl.running.logs import console
from purejaxrl.running.options import RunOptions
from purejaxrl.running.population import NUM_SEEDS, Population, Rows, populate, seeds, with_field
from purejaxrl.validation import require, require_count

MAY_CHANGE = ("total_steps", "meta_steps", "generations", "updates", "draws", "run.")
"""Settings that may differ when a run is resumed: its length, and how it runs."""

CHANGEABLE = f"{', '.join(MAY_CHANGE[:-1])} and the run options"

RunFlags = Annotated[RunOptions, tyro.conf.arg(name="")]
"""Run options, as flags without a prefix."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all experiments can be told; they add their own fields and defaults."""

    seeds: int = 16
    """Agents per combination of hyperparameters; their seeds count up from `first_seed`."""
    first_seed: int = 0
    """The first agent's seed: report on other seeds than those that settings were chosen on."""
    run: RunFlags = RunOptions()
    """How to run."""

    def __post_init__(self):
        require_count(self, "seeds")
        most = NUM_SEEDS - self.seeds
        require(0 <= self.first_seed <= most, self, "first_seed", f"an integer from 0 to {most}")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return type(self).__name__


class Job(NamedTuple):
    """One static setting, built: what `run` needs."""

    algorithm: Algorithm
    env_params: Any
    num_updates: int
    env: Any = None
    """Where a policy is evaluated and can be watched, if anywhere."""
    evaluator: Evaluator | None = None
    """How policies are evaluated; by default on episodes in `env`, if there is one."""
    shared: Mapping[str, Any] = MappingProxyType({})
    """Fields of the hyperparameters that all members share, by dotted name, such as a dataset."""


class Plan(NamedTuple):
    """One run of a command line."""

    settings: Any
    job: Job
    population: Population
    options: RunOptions
    swept: tuple[str, ...]
    """Hyperparameters that differ between members."""


Build = Callable[[Any], Job]


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
    parts = value.split(",")
    return parts if all(parts) else [value]


def _parse_one(settings: type, words: list[str]) -> Any:
    recommended = getattr(settings, "recommended", None)
    if recommended is None:
        return tyro.cli(settings, args=words, description=description(settings))
    (choice,) = inspect.signature(recommended).parameters
    named = [values[-1] for flag, values in _by_flag(words) if flag == f"--{choice}" and values]
    default = recommended(named[-1] if named else getattr(settings, choice))
    return tyro.cli(settings, args=words, description=description(settings), default=default)


def description(settings: type) -> str:
    """What `--help` says first: the docstring of the file that declares the settings.

    Its commands get a prompt, without which tyro would join their lines.
    """
    return re.sub(r"^(?=python )", "$ ", sys.modules[settings.__module__].__doc__ or "", flags=re.M)


def with_kept_words(settings: type, words: Sequence[str]) -> tuple[str, ...]:
    """Put the words of the run that is to be resumed before those of the command line.

    Args:
        settings: the experiment's.
        words: of the command line.

    Returns:
        The words, as they are if they do not resume a run that exists.

    Raises:
        ValueError: if the words change a setting that may not change.
    """
    words = tuple(words)
    options = _parse_one(settings, _combinations(words)[0]).run  # all have the same run options
    kept = _kept_words(options.folder) if options.resume else None
    if kept is None:
        return words
    given = {flag.replace("--no-", "--") for flag, _ in _by_flag(words)}
    merged = []
    for flag, values in _by_flag(kept):
        if flag.replace("--no-", "--") not in given:
            merged += [flag, *values] if flag else values
    merged += words
    before, now = (list(map(flatten, parse(settings, line))) for line in (kept, merged))
    _check_same(before, now, options.folder)
    return tuple(merged)


def _kept_words(out: Path) -> tuple[str, ...] | None:
    """Return the command line of the run in OUT, or of the runs in its subfolders."""
    below = sorted(path.parent for path in out.glob(f"*/{record.FILE}"))
    folders = [out] if (out / record.FILE).exists() else below
    commands = {tuple((record.read(f).get("command") or {}).get("words", ())) for f in folders}
    if len(commands) > 1:
        raise ValueError(
            f"out: {out} holds runs of {len(commands)} command lines; name one of its folders"
        )
    return next(iter(commands), None)


def _check_same(before: list[dict], now: list[dict], out: Path) -> None:
    """Raise a ValueError unless each setting is one of the run's, but for what may change."""

    def changed(a: dict, b: dict) -> list[str]:
        return [k for k in a if a[k] != b.get(k) and not k.startswith(MAY_CHANGE)]

    for settings in now:
        nearest = min(before, key=lambda one: len(changed(settings, one)))
        for name in changed(settings, nearest):
            raise ValueError(
                f"{name}: {settings[name]!r} is not valid; the run in {out} has "
                f"{nearest.get(name)!r}, and --resume may change only {CHANGEABLE}"
            )


def plan_runs(settings: type, build: Build, words: Sequence[str]) -> list[Plan]:
    """Plan the runs that a command line asks for: one for each static setting.

    Each has a folder of its own, named by what is looped over.

    Args:
        settings: dataclass that extends `Experiment` and has a field `hypers`.
        build: turns settings into a job; what it reads of `hypers` and `seeds` is ignored.
        words: of the command line.
    """
    parsed = parse(settings, words)
    flat = [flatten(s) for s in parsed]
    names = dict.fromkeys(name for f in flat for name in f)
    flags = {flag.removeprefix("--").replace("-", "_") for flag, _ in _by_flag(words)}
    varied = [k for k in names if any(f.get(k) != flat[0].get(k) for f in flat)]
    swept = [k for k in varied if k.startswith("hypers.") and k in flags]
    looped = [k for k in varied if k in flags and not k.startswith("hypers.")]
    groups: dict[str, list[int]] = {}
    for i, f in enumerate(flat):
        label = ",".join(f"{k.split('.')[-1]}={f[k]}" for k in looped)
        groups.setdefault(label.replace("/", "-"), []).append(i)
    apart = len({parsed[members[0]].run.folder for members in groups.values()}) == len(groups)

    plans = []
    for label, members in groups.items():
        chosen = parsed[members[0]]
        job = build(chosen)
        job = job._replace(evaluator=_evaluator(job, chosen.run))
        rows = Rows({k.removeprefix("hypers."): flat[i][k] for k in swept} for i in members)
        hypers = chosen.hypers
        for name, value in job.shared.items():
            hypers = with_field(hypers, name, value)
        population = populate(
            rows * seeds(chosen.seeds, chosen.first_seed), hypers, job.env_params,
            shared=tuple(job.shared),
        )  # fmt: skip
        if chosen.run.only:
            population = population.select(chosen.run.only)
        out = chosen.run.folder if apart else chosen.run.folder / label
        options = dataclasses.replace(chosen.run, out=str(out))
        about = tuple(k.removeprefix("hypers.") for k in swept)
        plans.append(Plan(chosen, job, population, options, about))
    return plans


def _evaluator(job: Job, options: RunOptions) -> Evaluator | None:
    if options.eval_every == 0:
        return None
    if job.evaluator or job.env is None:
        return job.evaluator
    return on_episodes(job.env, num_episodes=options.eval_episodes, greedy=options.eval_greedy)


def rebuild(out: Path | str) -> Plan:
    """Plan the run in a folder again, from the experiment and the command line in its record.

    Raises:
        ValueError: if the folder holds no run of an experiment, or the experiment is gone.
    """
    out = Path(out).expanduser()
    command = record.read(out).get("command")
    if not command:
        raise ValueError(f"out: {out} holds a run that no experiment file started")
    module = _import_experiment(Path(command["experiment"]))
    identity = record.read(out)["identity"]
    for plan in plan_runs(module.Settings, module.build, command["words"]):
        job = plan.job
        if record.identity(job.algorithm, plan.population, job.evaluator) == identity:
            return plan._replace(options=dataclasses.replace(plan.options, out=str(out)))
    raise ValueError(f"out: {out} holds a run that {module.__file__} no longer describes")


def _import_experiment(path: Path) -> Any:
    """Import an experiment's file, also where the repository has moved to the working directory."""
    known = [place for place in (path, Path("experiments") / path.name) if place.exists()]
    if not known:
        raise ValueError(f"experiment: {path} does not exist; run this in the repository's folder")
    sys.path.insert(0, str(known[0].parent))
    return importlib.import_module(path.stem)


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


def command(main: Callable[[Any], Any], settings: type, words: Sequence[str] | None = None) -> None:
    """Call `main` with the settings that the command line says, for what is not one run.

    Args:
        main: takes one instance of `settings`.
        settings: a dataclass.
        words: the command line; that of the process by default.
    """
    with errors_in_words():
        main(tyro.cli(settings, args=words, description=description(settings)))


def writable_folder(path: Path) -> Path:
    """Expand `~` in the name of a folder for results, which need not exist.

    Raises:
        ValueError: if it is a file or below one, or cannot be written.
    """
    path = path.expanduser()
    nearest = next(one for one in (path, *path.parents) if os.path.lexists(one))
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise ValueError(
            f"out: {path} is not valid; it must be a folder to write to, and {nearest} is none"
        )
    return path


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """End with a message, and no traceback, where input or files are not valid.

    Exits with status 2 after an error, and 130 after Ctrl-C.
    """
    try:
        yield
    except (ValueError, CheckpointError, ImportError, OSError) as error:
        say(f"error: {error}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        say("interrupted; what was saved is kept")
        raise SystemExit(130) from None


def say(text: str) -> None:
    """Print a message as it is, without markup; a closed terminal takes none."""
    with contextlib.suppress(OSError):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
