"""From a command line to trained populations: what every experiment file has in common.

An experiment declares its settings as a dataclass that extends `Experiment`, and a `build` that
turns one setting of them into a `Job`. Any value on the command line may be a comma-separated list:
swept floats of `hypers` become members of one population, anything else is looped over.
"""

import contextlib
import dataclasses
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import tyro
from rich.table import Table

from purejaxrl.algorithm import Algorithm
from purejaxrl.running.checkpoint import CheckpointError
from purejaxrl.running.logs import Sink, console, tensorboard_sink, wandb_sink
from purejaxrl.running.population import Rows, populate, seeds
from purejaxrl.running.runner import Result, RunOptions, estimate, plan_for, run
from purejaxrl.study import plots
from purejaxrl.study.stats import final_scores, interval

RunFlags = Annotated[RunOptions, tyro.conf.arg(name="")]
"""Run options, as flags without a prefix."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What all experiments can be told; they add their own fields and defaults."""

    seeds: int = 16
    """Agents per combination of hyperparameters, seeded 0, 1, 2, …"""
    run: RunFlags = RunOptions()
    """How to run."""


class Job(NamedTuple):
    """One static setting, built: what `run` needs."""

    algorithm: Algorithm
    env_params: Any
    num_updates: int
    env: Any = None  # where a trained policy can be watched


class Outcome(NamedTuple):
    """One static setting, trained."""

    settings: Any
    job: Job
    result: Result


def parse(settings: type, argv: Sequence[str]) -> list[Any]:
    """Parse a command line into every combination of its comma-separated values.

    Returns:
        Instances of `settings`, at least one.
    """
    choices = []
    for word in argv:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        swept = "," in value and all(value.split(","))
        choices.append([flag + equals + v for v in value.split(",")] if swept else [word])
    text, parsed = description(settings), []
    for words in itertools.product(*choices):
        default = _recommended(settings, words)
        parsed.append(tyro.cli(settings, args=list(words), description=text, default=default))
    return parsed


def _recommended(settings: type, words: Sequence[str]) -> Any:
    """Return the defaults for the environment that a command line names."""
    if not hasattr(settings, "recommended"):
        return None
    env = next(field.default for field in dataclasses.fields(settings) if field.name == "env")
    for word, following in itertools.pairwise((*words, "")):
        flag, equals, value = word.partition("=")
        if flag == "--env":
            env = value if equals else following
    return settings.recommended(env)


def updates_for(total_steps: float, steps_per_update: int) -> int:
    """How many updates make that many environment steps."""
    return int(total_steps) // steps_per_update


def description(settings: type) -> str:
    """What `--help` says first: the docstring of the file that declares the settings.

    Its commands get a prompt, without which tyro would join their lines.
    """
    return re.sub(r"^(?=python )", "$ ", sys.modules[settings.__module__].__doc__ or "", flags=re.M)


def launch(
    settings: type, build: Callable[[Any], Job], argv: Sequence[str] | None = None
) -> list[Outcome]:
    """Run an experiment as the command line asks, then tabulate and plot it.

    Args:
        settings: dataclass that extends `Experiment` and has a field `hypers`.
        build: turns settings into a job; what it reads of `hypers` and `seeds` is ignored.
        argv: command line; `sys.argv` by default.

    Returns:
        An outcome per static setting; none of a dry run.
    """
    with errors_in_words():
        return _launch(settings, build, sys.argv[1:] if argv is None else argv)


def command(main: Callable[[Any], Any], settings: type) -> None:
    """Call `main` with the settings that the command line says, for what is not one run.

    Args:
        main: of one instance of `settings`.
        settings: a dataclass.
    """
    with errors_in_words():
        main(tyro.cli(settings, description=description(settings)))


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """End with a message, and no traceback, where input or files are not valid."""
    try:
        yield
    except (ValueError, CheckpointError, ImportError) as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False)
        raise SystemExit(2) from error


def _launch(settings: type, build: Callable[[Any], Job], argv: Sequence[str]) -> list[Outcome]:
    parsed = parse(settings, argv)
    flat = [_flatten(s) for s in parsed]
    same_env = lambda f, g: f.get("env") == g.get("env")  # noqa: E731
    varied = [
        k for k in flat[0] if any(f[k] != g[k] and same_env(f, g) for f in flat for g in flat)
    ]
    if len({(f["run.out"], f.get("env")) for f in flat}) > len({f["run.out"] for f in flat}):
        varied.append("env")
    swept = [k for k in varied if k.startswith("hypers.")]
    looped = [k for k in varied if not k.startswith("hypers.")]
    groups: dict[str, list[int]] = {}
    for i, f in enumerate(flat):
        label = ",".join(f"{k.split('.')[-1]}={f[k]}" for k in looped)
        groups.setdefault(str(Path(f["run.out"]) / label), []).append(i)

    plans = []
    for out, members in groups.items():
        chosen = parsed[members[0]]
        job = build(chosen)
        rows = Rows({k.removeprefix("hypers."): flat[i][k] for k in swept} for i in members)
        population = populate(rows * seeds(chosen.seeds), chosen.hypers, job.env_params)
        if chosen.run.only:
            population = population.select(chosen.run.only)
        options = dataclasses.replace(chosen.run, out=out)
        plans.append((chosen, job, population, options))

    outcomes = []
    for chosen, job, population, options in plans:
        if options.dry_run:
            _foresee(job, population, options)
            continue
        sinks = _sinks(options, population.names, _flatten(chosen))
        result = run(
            job.algorithm, population, job.num_updates, options, settings=chosen, sinks=sinks
        )
        outcomes.append(Outcome(chosen, job, result))
        report(outcomes[-1], [k.removeprefix("hypers.") for k in swept])
    return outcomes


def report(outcome: Outcome, swept: Sequence[str]) -> pd.DataFrame:
    """Print the final return of every combination, and draw curves (and a heat map for two)."""
    result, frame = outcome.result, outcome.result.metrics
    about = (type(outcome.settings).__doc__ or "").strip().splitlines()[0].rstrip(".")
    about = about.format_map(vars(outcome.settings))
    members = frame.groupby("member")[list(swept)].first() if swept else pd.DataFrame(
        index=sorted(frame["member"].unique())
    )  # fmt: skip
    members["return"] = final_scores(frame)
    groups = members.groupby(list(swept), dropna=False) if swept else [((), members)]
    table = Table(*swept, "mean [95 % interval]", "members", title=f"{about}: final return")
    for values, part in groups:
        scores = part["return"].dropna().to_numpy()
        text = str(interval(scores)) if len(scores) else "no episode finished"
        table.add_row(*(f"{v:g}" for v in values), text, str(len(part)))
    console.print(table)
    by = swept if len(groups) <= 10 else ()
    plots.learning_curves(frame, result.out / "curves.png", by=by, title=about)
    if len(swept) == 2:
        plots.heat_map(frame, result.out / "heat_map.png", x=swept[0], y=swept[1])
    console.print(f"metrics, checkpoints and curves.png are in {result.out}", highlight=False)
    return members


def _foresee(job: Job, population: Any, options: RunOptions) -> None:
    plan = plan_for(job.algorithm, population, options)
    need = estimate(job.algorithm, population, job.num_updates, options)
    console.print(
        f"{options.out}: {population.size} members ({population.names[0]} … "
        f"{population.names[-1]}) × {job.num_updates:,} updates = {need.env_steps:,} environment "
        f"steps each on {plan.mesh.size} {plan.mesh.devices.flat[0].platform} device(s), "
        f"{plan.group} at a time; about {need.bytes / 2**20:,.0f} MiB and {need.seconds:,.0f} s "
        "after compilation",
        highlight=False,
        markup=False,
    )


def _sinks(options: RunOptions, names: Sequence[str], config: dict[str, Any]) -> list[Sink]:
    sinks = []
    if options.tensorboard:
        sinks.append(tensorboard_sink(Path(options.out) / "tensorboard", names))
    if options.wandb:
        sinks.append(wandb_sink(options.wandb, config))
    return sinks


def _flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            flat |= _flatten(value, f"{prefix}{field.name}.")
        else:
            flat[prefix + field.name] = value
    return flat
