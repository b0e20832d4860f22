"""From a command line to a study: what every experiment file has in common.

`launch` plans the runs that the command line asks for, trains them, saves what they learned, and
then tabulates and plots them. See `running/words.py` for what a command line can say.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.table import Table
from rich.text import Text

from purejaxrl.running import processes, record
from purejaxrl.running.chunk import plan_for
from purejaxrl.running.commandline import (
    Build,
    Experiment,
    Job,
    Plan,
    RunFlags,
    command,
    errors_in_words,
    plan_runs,
    writable_folder,
)
from purejaxrl.running.estimate import estimate
from purejaxrl.running.logs import console, duration, say
from purejaxrl.running.options import updates_for
from purejaxrl.running.result import Result
from purejaxrl.running.runner import run
from purejaxrl.running.sinks import Sink, TensorBoardSink, WandbSink
from purejaxrl.running.words import flatten, with_kept_words
from purejaxrl.study import plots
from purejaxrl.study.stats import final_scores, interval

__all__ = [
    "Experiment",
    "Job",
    "Outcome",
    "RunFlags",
    "command",
    "errors_in_words",
    "launch",
    "say",
    "updates_for",
    "writable_folder",
]


class Outcome(NamedTuple):
    """One static setting, trained."""

    settings: Any
    job: Job
    result: Result


def launch(
    settings: type,
    build: Build,
    words: Sequence[str] | None = None,
    *,
    save: Callable[[Outcome], Any] | None = None,
) -> list[Outcome]:
    """Run an experiment as the command line asks, then tabulate and plot it.

    Args:
        settings: dataclass that extends `Experiment` and has a field `hypers`.
        build: turns settings into a job. It is called once per run, with the first values of
            swept fields. If a job depends on a field of `hypers`, `Job.reads` names that field, and
            it cannot be swept.
        words: the command line; that of the process by default.
        save: writes what a run has learned, before anything is tabulated or drawn.

    Returns:
        One outcome per static setting; none after a dry run. Where several processes train
        together, only the first returns outcomes.
    """
    words = sys.argv[1:] if words is None else words
    with errors_in_words():
        words = processes.on_first(with_kept_words, settings, words)
        plans = plan_runs(settings, build, words)
        if plans[0].options.dry_run:
            print_estimates(plans)
            return []
        processes.on_first(_require_free, plans)
        outcomes, scores = [], []
        for plan in plans:
            outcome = _train(plan, _command(settings, words))
            if processes.is_first():
                outcomes.append(outcome)
                if save:
                    save(outcome)
                scores.append(report(plan, outcome.result))
        if len(scores) > 1:
            compare(plans, scores)
    return outcomes


def _require_free(plans: Sequence[Plan]) -> None:
    """Raise a ValueError, before any run of a loop begins, if one of the folders holds a run."""
    for plan in plans:
        if not plan.options.resume:
            record.require_free(plan.options.folder)


def _command(settings: type, words: Sequence[str]) -> dict[str, Any]:
    """What `run.json` keeps, so that the run can be resumed and watched."""
    once = {"--resume", "--dry-run"}
    file = getattr(sys.modules[settings.__module__], "__file__", "")
    return {
        "experiment": str(Path(file).absolute()),
        "words": [word for word in words if word.replace("_", "-") not in once],
    }


def _train(plan: Plan, command: dict[str, Any]) -> Outcome:
    chosen, job, population, options, _ = plan
    result = run(
        job.algorithm,
        population,
        job.num_updates,
        options,
        evaluator=job.evaluator,
        settings=chosen,
        command=command,
        sinks=_sinks(plan) if processes.is_first() else (),
    )
    return Outcome(chosen, job, result)


def report(plan: Plan, result: Result) -> pd.DataFrame:
    """Print the final return of every combination, and draw curves (and a heat map for two).

    A model that neither acts nor is evaluated has no return, and gets no table and no curves.

    Returns:
        One row per member: what it sweeps and its final `return`, NaN for one that diverged.
    """
    frame, swept, title = result.scores, list(plan.swept), plan.settings.title
    members = frame.groupby("member")[swept].first() if swept else pd.DataFrame(
        index=sorted(frame["member"].unique())
    )  # fmt: skip
    members["return"] = final_scores(frame)
    members["alive"] = result.alive
    groups = members.groupby(swept, dropna=False) if swept else [((), members)]
    scored, made = frame["update"].max(), plan.job.num_updates
    what = "final return" if scored == made else f"return at update {scored} of {made}"
    table = Table(*swept, "mean [95 % interval]", "members", title=Text(f"{title}: {what}"))
    for values, part in groups:
        table.add_row(*(f"{v:g}" for v in values), *_summary(part))
    if plan.job.env is None and frame["return"].isna().all():
        say(f"metrics and checkpoints are in {result.out}")
        return members
    plots.learning_curves(frame, result.out / "curves.png", by=swept, title=title)
    if len(swept) == 2:
        plots.heat_map(frame, result.out / "heat_map.png", x=swept[0], y=swept[1])
    console.print(table)
    say(f"metrics, checkpoints and curves.png are in {result.out}")
    return members


def compare(plans: Sequence[Plan], scores: Sequence[pd.DataFrame]) -> None:
    """Print one table of all static settings of a command line."""
    table = Table("setting", "mean [95 % interval]", "members", title="final return")
    for plan, members in zip(plans, scores, strict=True):
        table.add_row(Text(plan.options.folder.name), *_summary(members))
    console.print(table)


def _summary(members: pd.DataFrame) -> tuple[str, str]:
    """Write the mean return with its interval, and the numbers of members and of diverged ones."""
    scores = members["return"].dropna().to_numpy()
    diverged = int((~members["alive"]).sum())
    text = str(interval(scores)) if len(scores) else "no episode finished"
    if diverged == len(members):
        text = "all diverged"
    return text, f"{len(members)}" + (f" ({diverged} diverged)" if diverged else "")


def print_estimates(plans: Sequence[Plan]) -> None:
    """Print what the runs would take, one by one and together."""
    seconds = 0.0
    for plan in plans:
        job, population, options = plan.job, plan.population, plan.options
        layout = plan_for(job.algorithm, population, options.group)
        device = layout.mesh.devices.flat[0].platform
        need = estimate(job.algorithm, population, job.num_updates, options)
        seconds += need.seconds
        say(
            f"{options.out}: {population.size} members ({population.names[0]} … "
            f"{population.names[-1]}) × {job.num_updates:,} updates = {need.env_steps:,} "
            f"environment steps each on {layout.mesh.size} {device} device(s), {layout.group} at a "
            f"time; {need.num_bytes / 2**20:,.0f} MiB, at most {duration(need.seconds)} after "
            "compilation, without evaluations"
        )
    if len(plans) > 1:
        all_told = f"at most {duration(seconds)} after compilation"
        say(f"{len(plans)} runs, one after the other: {all_told}")


def _sinks(plan: Plan) -> list[Sink]:
    options, population, sinks = plan.options, plan.population, []
    if options.tensorboard:
        sinks.append(TensorBoardSink(options.folder / "tensorboard", population.names))
    if options.wandb:
        settings = flatten(plan.settings)
        sinks.append(WandbSink(options.wandb, options.out, population.rows, settings))
    return sinks
