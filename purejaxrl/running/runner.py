"""The same computation as `make_train`, for people: observable, resumable, on many devices.

Updates run in chunks on the devices. Between chunks, never inside, the host writes metrics and
checkpoints, shows progress, and listens for a signal. Chunk boundaries are counted in updates, so
that a run killed at any moment and resumed ends where an unbroken one ends, on CPUs bit for bit.
"""

import contextlib
import dataclasses
import itertools
import json
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from purejaxrl.algorithm import Algorithm, require_fit
from purejaxrl.running import checkpoint, processes, record
from purejaxrl.running.chunk import (
    Carry,
    Program,
    abstract,
    compile_chunk,
    gather,
    place,
    plan_for,
    start,
)
from purejaxrl.running.devices import Layout
from purejaxrl.running.evaluate import Evaluator
from purejaxrl.running.logs import ProgressLine
from purejaxrl.running.metrics import EVALUATIONS, METRICS, MetricsStore
from purejaxrl.running.options import RunOptions
from purejaxrl.running.population import Population, name_of
from purejaxrl.running.profile import Tracer
from purejaxrl.running.result import Result
from purejaxrl.running.signals import Stopped, stop_signals
from purejaxrl.running.sinks import DroppableSink, Sink
from purejaxrl.running.tables import average_updates, tabulate
from purejaxrl.validation import COUNT, check_hypers, is_count


class Position(NamedTuple):
    """How far a run has come."""

    carry: list[Carry]  # of the members that run together
    update: int
    env_steps: np.ndarray  # int64 [num_members]
    evaluated: int  # the update of the last evaluation; 0 before the first


class Outputs(NamedTuple):
    """Where a run writes."""

    metrics: MetricsStore
    evaluations: MetricsStore
    sinks: tuple[DroppableSink, ...]
    saved: checkpoint.Series

    @classmethod
    def of(cls, options: RunOptions, sinks: Sequence[Sink]) -> "Outputs":
        """Name the folders of a run; each appears when it is first written."""
        out = options.folder
        return cls(
            MetricsStore(out / METRICS),
            MetricsStore(out / EVALUATIONS),
            tuple(map(DroppableSink, sinks)),
            checkpoint.Series(out / "checkpoints", options.keep_last),
        )

    def resume_from(self, position: Position) -> None:
        """Forget what is newer than the loaded checkpoint: rows, and damaged checkpoints."""
        self.metrics.resume_from(position.update)
        self.evaluations.resume_from(position.evaluated)
        self.saved.remove_after(position.update)

    def close(self) -> None:
        """Close the dashboards."""
        for dashboard in self.sinks:
            dashboard.close()


def run(
    algorithm: Algorithm,
    population: Population,
    num_updates: int,
    options: RunOptions,
    *,
    horizon: int | None = None,
    evaluator: Evaluator | None = None,
    settings: Any = None,
    command: dict[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Train a population.

    Args:
        algorithm: what to run.
        population: the members to train.
        num_updates: length of the run, counted from the very beginning.
        options: where and how.
        horizon: length of life that annealing sees; `num_updates` by default. To extend
            a run extends its horizon too.
        evaluator: evaluates policies at the multiples of `options.eval_every`; None: no evaluation.
        settings: dataclass kept in `run.json`, for people.
        command: the command line, kept in `run.json` for `--resume`.
        sinks: where else metrics and evaluations go; one that fails is dropped with a warning.
        devices: what to run on; all devices by default.

    Returns:
        The final states and where everything is. A member whose parameters or losses became
        NaN or infinite is frozen at its last good state, reported, and leaves the others alone.

    Raises:
        ValueError: for invalid arguments, an `out` that holds another run, or damaged metrics.
        checkpoint.CheckpointError: if `out` cannot be written, or no checkpoint can be used.
        processes.Lost: if another process of the run has ended.
        Stopped: after SIGTERM, SIGHUP or Ctrl-C, everything saved.
    """
    horizon = num_updates if horizon is None else horizon
    for name, value in (("num_updates", num_updates), ("horizon", horizon)):
        if not is_count(value):
            raise ValueError(f"{name}: {value!r} is not valid; it must be {COUNT}")
    check_hypers(population.hypers)
    if evaluator:
        require_fit("algorithm", algorithm, "evaluation", *evaluator.needs)
    every = options.evaluation_interval(num_updates) if evaluator else 0
    out = options.folder
    plan = plan_for(algorithm, population, options.group, list(devices) if devices else None)
    about = {
        "command": command,
        "settings": _as_dict(settings),
        "layout": {"devices": plan.mesh.size, "group": plan.group},
    }
    identity = record.identity(algorithm, population, evaluator if every else None)
    with contextlib.ExitStack() as held, processes.lost_in_words(), stop_signals() as stopping:
        processes.on_first(held.enter_context, record.locked(out))
        processes.on_first(partial(record.claim, out, options.resume, identity, **about))
        outputs = Outputs.of(options, sinks)
        position = _restore(algorithm, population, plan, horizon, bool(every), outputs.saved)
        _require_no_shorter(num_updates, position.update, out)
        processes.on_first(partial(record.renew, out, **about))
        processes.on_first(outputs.resume_from, position)
        held.callback(outputs.close)
        if position.update < num_updates:  # there is nothing to compile for a run that is finished
            progress = ProgressLine(num_updates, position.update, options.progress)
            held.callback(progress.close)
            program = compile_chunk(
                algorithm, population, plan, options.chunk, position.carry, evaluator=evaluator
            )
            position = _train(
                program, position, num_updates, every, options, population,
                outputs=outputs, stopping=stopping, progress=progress,
            )  # fmt: skip
        stopped = processes.any_of(stopping)  # if so, no later run begins
    if stopped:
        raise Stopped(
            f"stopped at update {position.update} of {num_updates}; saved in {out}, resume to go on"
        )
    host = gather(plan, position.carry)
    return Result(host.state, host.alive, population, out, host.best)


def _require_no_shorter(num_updates: int, made: int, out: Path) -> None:
    if made > num_updates:
        raise ValueError(
            f"num_updates: {num_updates} is not valid; the run in {out} already made {made}, and "
            "can be made longer, but not shorter"
        )


def _restore(
    algorithm: Algorithm,
    population: Population,
    plan: Layout,
    horizon: int,
    evaluated: bool,
    saved: checkpoint.Series,
) -> Position:
    """Load the newest checkpoint that is whole, or start."""
    found = saved.load_latest(abstract(algorithm, population, evaluated), warn=warnings.warn)
    if found:
        carry, info = found
        carry = place(algorithm, plan, carry, horizon)
        env_steps = np.asarray(info["env_steps"], np.int64)
        return Position(carry, info["update"], env_steps, info["evaluated"])
    out = saved.folder.parent
    marker = out / record.SAVED
    if marker.exists():
        raise checkpoint.CheckpointError(
            f"out: {out} had checkpoints ({marker.read_text().strip()}), and none is left; restore "
            "them to resume the run, or choose another folder"
        )
    carry = start(algorithm, population, plan, horizon, evaluated)
    return Position(carry, 0, np.zeros(population.size, np.int64), 0)


def _train(
    program: Program,
    position: Position,
    num_updates: int,
    every: int,
    options: RunOptions,
    population: Population,
    outputs: Outputs,
    stopping: Sequence[int],
    progress: ProgressLine,
) -> Position:
    """Run chunks until the end or a signal; save now and then, and at the end."""
    progress.begin(position.update, int(position.env_steps.sum()))
    alive = program.gather([one.alive for one in position.carry])
    frozen = set(np.flatnonzero(~alive))
    if not alive.any():
        processes.on_first(_warn_that_all_are_frozen, position.update)
    tracer = Tracer(options.folder / "profile", options.profile if processes.is_first() else 0)
    unsaved, saved_at = 0, time.monotonic()

    def report(
        before: int, now: Position, metrics: dict[str, np.ndarray], evaluation: pa.Table | None
    ) -> None:
        rows, updates = average_updates(metrics, before, options.log_every, program.episode_means)
        table = tabulate(population.rows, rows, updates)
        outputs.metrics(table, before)
        tables = [table] if evaluation is None else [table, evaluation]
        for sink, shown in itertools.product(outputs.sinks, tables):
            sink(shown)
        progress.advance(now.update, int(now.env_steps.sum()), _mean_return(metrics))
        _warn_of_frozen(population, metrics["alive"], frozen, before)

    try:
        while position.update < num_updates and not processes.any_of(stopping):
            before = position.update
            tracer.chunk_begins()
            position, metrics = _advance(program, position, num_updates, every)
            evaluation = None
            if every and position.update % every == 0:
                position, evaluation, progress.evaluation = _evaluate(
                    program, position, population, outputs.evaluations
                )
            processes.on_first(report, before, position, metrics, evaluation)
            unsaved += 1
            late = time.monotonic() - saved_at > 60 * options.checkpoint_minutes
            if unsaved == options.checkpoint_every or processes.any_of(late):
                _save(program, position, outputs.saved)
                unsaved, saved_at = 0, time.monotonic()
        if unsaved or position.update == 0:
            _save(program, position, outputs.saved)
    except (OSError, checkpoint.CheckpointError) as error:
        raise checkpoint.CheckpointError(
            f"out: {options.folder} cannot be written ({error}); checkpoints up to update "
            f"{max(outputs.saved.updates(), default=0)} are kept; free room and resume"
        ) from error
    finally:
        tracer.close()
    return position


def _advance(
    program: Program, position: Position, num_updates: int, every: int
) -> tuple[Position, dict[str, np.ndarray]]:
    """Run up to the next boundary of a chunk, or of an evaluation.

    The `env_steps` of the metrics count from the start of the run.
    """
    done = position.update
    boundaries = [length - done % length for length in (program.room, every) if length]
    length = min(*boundaries, num_updates - done)
    carry, metrics = program(length, position.carry)
    steps = position.env_steps[:, None] + metrics["env_steps"].cumsum(axis=1, dtype=np.int64)
    position = Position(carry, done + length, steps[:, -1], position.evaluated)
    return position, metrics | {"env_steps": steps}


def _evaluate(
    program: Program, position: Position, population: Population, evaluations: MetricsStore
) -> tuple[Position, pa.Table, float]:
    """Evaluate all members and write a row for each.

    Returns:
        The position, the rows for sinks, where their metrics begin with `evaluation_`, and the mean
        return of the members alive.
    """
    carry, metrics = program.evaluate(position.update, position.carry)
    update, columns = np.asarray([position.update]), {k: x[:, None] for k, x in metrics.items()}
    steps = {"env_steps": position.env_steps[:, None]}
    table = tabulate(population.rows, steps | columns, update)
    processes.on_first(evaluations, table, position.evaluated)
    position = position._replace(carry=carry, evaluated=position.update)
    renamed = {f"evaluation_{name}": values for name, values in columns.items()}
    scores = metrics["return"][metrics["alive"]]
    mean = float(scores.mean()) if scores.size else float("nan")
    return position, tabulate(population.rows, renamed, update), mean


def _save(program: Program, position: Position, saved: checkpoint.Series) -> None:
    info = {"env_steps": position.env_steps.tolist(), "evaluated": position.evaluated}
    saved.save(position.update, program.gather(position.carry), info)
    text = json.dumps({"update": position.update})
    processes.on_first(checkpoint.write_atomically, saved.folder.parent / record.SAVED, text)


def _warn_of_frozen(
    population: Population, alive: np.ndarray, frozen: set[int], before: int
) -> None:
    """Report members that froze in a chunk, `alive [num_members, updates]`, and add them."""
    new = sorted(set(np.flatnonzero(~alive[:, -1])) - frozen)
    frozen.update(new)
    first_dead = before + 1 + alive.argmin(axis=1)
    for member in new:
        warnings.warn(
            f"member {name_of(population.rows[member])!r} is frozen: its parameters or losses are "
            f"no longer finite at update {first_dead[member]}",
            stacklevel=4,
        )
    if new and len(frozen) == population.size:
        _warn_that_all_are_frozen(first_dead.max())


def _warn_that_all_are_frozen(update: int) -> None:
    warnings.warn(
        f"all members are frozen since update {update}; nothing more is learned; Ctrl-C ends the "
        "run",
        stacklevel=5,
    )


def _mean_return(metrics: dict[str, np.ndarray]) -> float:
    """Mean return of the episodes that finished in a chunk; NaN: none did."""
    values, counts = metrics["return"], metrics["episodes"]
    counts = np.where(np.isfinite(values), counts, 0)
    total = counts.sum()
    return float((np.nan_to_num(values) * counts).sum() / total) if total else float("nan")


def _as_dict(settings: Any) -> Any:
    return dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else settings
