"""Command lines: from settings to runs.

An experiment declares its settings as a dataclass that extends `Experiment`, and a `build` that
turns one of them into a `Job`. `words.py` says what a command line can ask for.
"""

import contextlib
import dataclasses
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from purejaxrl.algorithm import Algorithm
from purejaxrl.running import record
from purejaxrl.running.checkpoint import CheckpointError, Series
from purejaxrl.running.chunk import abstract
from purejaxrl.running.evaluate import Evaluator, on_episodes
from purejaxrl.running.logs import console, say
from purejaxrl.running.options import RunOptions
from purejaxrl.running.population import NUM_SEEDS, Population, Rows, populate, seeds, with_field
from purejaxrl.running.signals import STOPPED, Stopped
from purejaxrl.running.words import by_folder, description, flatten, parse, varied
from purejaxrl.validation import require, require_count

RunFlags = Annotated[RunOptions, tyro.conf.arg(name="")]
"""Run options, as flags without a prefix."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all experiments can be told; they add their own fields and defaults."""

    seeds: int = 16
    """Agents per combination of hyperparameters; their seeds count up from `first_seed`."""
    first_seed: int = 0
    """The first agent's seed. Report results on seeds that were not used to choose settings."""
    run: RunFlags = RunOptions()
    """How to run."""

    def __post_init__(self):
        require_count(self, "seeds")
        most = NUM_SEEDS - self.seeds
        require(0 <= self.first_seed <= most, self, "first_seed", f"an integer from 0 to {most}")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
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
    reads: tuple[str, ...] = ()
    """Fields of the hyperparameters whose values were read when the job was built, such as those of
    an evaluator's agents. They cannot be swept."""


class Plan(NamedTuple):
    """One run of a command line."""

    settings: Any
    job: Job
    population: Population
    options: RunOptions
    swept: tuple[str, ...]
    """Hyperparameters that differ between members."""


Build = Callable[[Any], Job]


def plan_runs(settings: type, build: Build, words: Sequence[str]) -> list[Plan]:
    """Plan the runs that a command line asks for: one for each static setting.

    Each has a folder of its own, named by what is looped over.

    Args:
        settings: dataclass that extends `Experiment` and has a field `hypers`.
        build: turns settings into a job. It is called once per run, with the first values of
            swept fields. If a job depends on a field of `hypers`, `Job.reads` names that field, and
            it cannot be swept.
        words: the arguments of the command line.

    Raises:
        ValueError: if a field that a job reads is swept, or evaluations are asked for where there
            is nothing to evaluate.
    """
    parsed = parse(settings, words)
    flat = [flatten(s) for s in parsed]
    swept = [k for k in varied(parsed, words) if k.startswith("hypers.")]
    plans = []
    for folder, members in by_folder(parsed, words).items():
        chosen = parsed[members[0]]
        job = build(chosen)
        for name in swept:
            if name.removeprefix("hypers.").split(".")[0] in job.reads:
                raise ValueError(
                    f"{name}: several values are not valid here; give one at a time, each with its "
                    "own --out, as the evaluation of all members uses this value"
                )
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
        options = dataclasses.replace(chosen.run, out=str(folder))
        about = tuple(k.removeprefix("hypers.") for k in swept)
        plans.append(Plan(chosen, job, population, options, about))
    return plans


def _evaluator(job: Job, options: RunOptions) -> Evaluator | None:
    if options.eval_every == 0:
        return None
    if job.evaluator:
        return job.evaluator
    if job.env is None:
        require(
            options.eval_every is None, options, "eval_every",
            "0 or None, as this experiment does not evaluate what it trains",
        )  # fmt: skip
        return None
    return on_episodes(job.env, num_episodes=options.eval_episodes, greedy=options.eval_greedy)


def rebuild(out: Path | str) -> Plan:
    """Plan the run in a folder again, from the experiment and the command line in its record.

    Raises:
        ValueError: if the folder holds no run of an experiment, or the experiment is gone.
    """
    out = Path(out).expanduser()
    kept = record.read(out)
    command = kept.get("command")
    if not command:
        raise ValueError(f"out: {out} holds a run that no experiment file started")
    module = _import_experiment(Path(command["experiment"]))
    for plan in plan_runs(module.Settings, module.build, command["words"]):
        job = plan.job
        if record.identity(job.algorithm, plan.population, job.evaluator) == kept["identity"]:
            return plan._replace(options=dataclasses.replace(plan.options, out=str(out)))
    raise ValueError(f"out: {out} holds a run that {module.__file__} no longer describes")


def load_members(plan: Plan) -> tuple[Any, np.ndarray]:
    """Load the states of all agents from the latest checkpoint that is whole.

    Args:
        plan: what `rebuild` returned.

    Returns:
        The states, leaves `[members, ...]`, and who has not diverged, bool `[members]`.

    Raises:
        CheckpointError: if there is no whole checkpoint.
    """
    like = abstract(plan.job.algorithm, plan.population, plan.job.evaluator is not None)
    folder = plan.options.folder / "checkpoints"
    found = Series(folder).load_latest(like, warnings.warn)
    if found is None:
        raise CheckpointError(f"checkpoints: {folder} holds none")
    return found[0].state, np.asarray(found[0].alive)


def _import_experiment(path: Path) -> Any:
    """Import an experiment's file, also where the repository has moved to the working directory."""
    known = [place for place in (path, Path("experiments") / path.name) if place.exists()]
    if not known:
        raise ValueError(f"experiment: {path} does not exist; run this in the repository's folder")
    sys.path.insert(0, str(known[0].parent))
    return importlib.import_module(path.stem)


def command(main: Callable[[Any], Any], settings: type, words: Sequence[str] | None = None) -> None:
    """Call `main` with the settings of the command line, for a script that is not one run.

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
    """End the process with a message and no traceback where input or files are not valid.

    A ValueError that neither this project nor an experiment raised is a bug: its traceback is
    printed too. Exits with status 2 after an error, 76 after a run that was stopped and has saved,
    and 130 after a Ctrl-C that nothing handled.
    """
    try:
        yield
    except (ValueError, CheckpointError, ImportError, OSError) as error:
        if isinstance(error, ValueError) and not _raised_on_purpose(error):
            traceback.print_exc()
        if console.quiet:  # as in all processes of a run but the first
            print(f"error: {error}", file=sys.stderr)
        say(f"error: {error}")
        raise SystemExit(2) from None
    except Stopped as stopped:
        say(str(stopped))
        raise SystemExit(STOPPED) from None
    except KeyboardInterrupt:
        say("interrupted; what was saved is kept")
        raise SystemExit(130) from None


def _raised_on_purpose(error: ValueError) -> bool:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return "site-packages" not in place.filename and (place.line or "").startswith("raise ")
