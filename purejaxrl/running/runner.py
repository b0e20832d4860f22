"""The same computation as `make_train`, for people: observable, resumable, on many devices.

Updates run in chunks on the devices. Between chunks, never inside, the host writes metrics and
checkpoints, shows progress, and listens for a signal. Chunk boundaries are counted in updates, so
that a run killed at any moment and resumed ends bit for bit where an unbroken one ends.
"""

import dataclasses
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from purejaxrl.algorithm import Algorithm
from purejaxrl.running import checkpoint, record
from purejaxrl.running.chunk import Carry, Program, compile_chunk, place, plan_for, start
from purejaxrl.running.logs import ProgressLine
from purejaxrl.running.metrics import MetricsStore, read_metrics, tabulate
from purejaxrl.running.population import Population, name_of
from purejaxrl.running.signals import stop_signals
from purejaxrl.running.sinks import DroppableSink, Sink
from purejaxrl.validation import COUNT, check_hypers, is_count, require, require_count

SAVED = "saved.json"
"""File that names the newest checkpoint, so that a run whose checkpoints were lost says so."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How to run, as against what to run.

    None of it changes a result, but for the last bit of sums where `group` is 1 or `only` is set:
    one member alone is another matrix product than several. `run.json` records the group.
    """

    out: str = "results/run"
    """Folder for metrics, checkpoints and plots."""
    resume: bool = False
    """Continue the run in OUT with the command line kept there, or extend a finished one; start it
    if there is none."""
    chunk: int = 16
    """Updates between two looks of the host: progress, metrics, signals."""
    checkpoint_every: int = 16
    """Chunks between checkpoints; there is always one at the end."""
    keep_last: int = 2
    """Checkpoints to keep besides the best one."""
    group: int | None = None
    """Members that a device vmaps at a time; by default 8 on a CPU, all on an accelerator."""
    progress: bool = True
    """Show progress."""
    only: str = ""
    """Train only the member of this name, alone, from the key it has in the whole population."""
    tensorboard: bool = False
    """Also write metrics for TensorBoard, to OUT/tensorboard."""
    wandb: str = ""
    """Also log metrics to this Weights & Biases project."""
    dry_run: bool = False
    """Only say what would run: members, steps, memory, and an estimate of the time."""

    def __post_init__(self):
        require_count(self, "chunk", "checkpoint_every", "keep_last")
        require(self.group is None or is_count(self.group), self, "group", f"{COUNT}, or None")
        require(bool(self.out), self, "out", "the name of a folder")

    @property
    def folder(self) -> Path:
        """OUT as a path, `~` expanded."""
        return Path(self.out).expanduser()


class Result(NamedTuple):
    """What a run leaves: arrays on the host, leaves `[num_members, ...]`."""

    state: Any
    alive: np.ndarray  # bool: whether the member's parameters and losses stayed finite
    population: Population
    out: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """All metrics, one row per member and update."""
        return read_metrics(self.out)

    def member(self, index: int) -> Any:
        """Return the state of one member."""
        return jax.tree.map(lambda x: x[index], self.state)


class Stopped(SystemExit):
    """A signal asked the run to stop; it has saved and can be resumed."""


class Position(NamedTuple):
    """How far a run has come."""

    carry: Carry
    update: int
    env_steps: np.ndarray  # int64 [num_members]


def run(
    algorithm: Algorithm,
    population: Population,
    num_updates: int,
    options: RunOptions,
    *,
    horizon: int | None = None,
    settings: Any = None,
    command: dict[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Train a population.

    Args:
        algorithm: what to run.
        population: whom to train.
        num_updates: length of the run, counted from the very beginning.
        options: where and how.
        horizon: length of life that annealing sees; `num_updates` by default. A run that is
            extended has its horizon moved along.
        settings: dataclass kept in `run.json`, for people.
        command: the command line, kept in `run.json` for `--resume`.
        sinks: where else metrics go, chunk by chunk; one that fails is dropped with a warning.
        devices: what to run on; all devices by default.

    Returns:
        The final states and where everything is. A member whose parameters or losses became
        NaN or infinite is frozen at its last good state, reported, and leaves the others alone.

    Raises:
        ValueError: for invalid arguments, an `out` that holds another run, or damaged metrics.
        checkpoint.CheckpointError: if `out` cannot be written, or no checkpoint can be used.
        Stopped: after SIGTERM, SIGHUP or Ctrl-C, everything saved.
    """
    horizon = num_updates if horizon is None else horizon
    for name, value in (("num_updates", num_updates), ("horizon", horizon)):
        if not is_count(value):
            raise ValueError(f"{name}: {value!r} is not valid; it must be {COUNT}")
    check_hypers(population.hypers)
    out = options.folder
    plan = plan_for(algorithm, population, options.group, list(devices) if devices else None)
    with record.locked(out), stop_signals() as stopping:
        record.claim(
            out,
            options.resume,
            record.identity(algorithm, population),
            command=command,
            settings=_as_dict(settings),
            layout={"devices": plan.mesh.size, "group": plan.group},
        )
        store = MetricsStore(out / "metrics")
        saved = checkpoint.Series(out / "checkpoints", options.keep_last)
        position = _restore(algorithm, population, out, saved)
        if position.update > num_updates:
            raise ValueError(
                f"num_updates: {num_updates} is not valid; the run in {out} already made "
                f"{position.update}"
            )
        store.check(position.update)
        store.rewind(position.update)
        carry = place(algorithm, plan, position.carry, horizon)
        position = _train(
            compile_chunk(algorithm, population, plan, options.chunk, carry),
            position._replace(carry=carry),
            num_updates,
            options,
            population,
            (store, *map(DroppableSink, sinks)),
            saved,
            stopping,
        )
    if position.update < num_updates:
        raise Stopped(
            f"stopped at update {position.update} of {num_updates}; saved in {out}, resume to go on"
        )
    host = plan.trim(jax.device_get(position.carry))
    return Result(host.state, host.alive, population, out)


def _restore(
    algorithm: Algorithm, population: Population, out: Path, saved: checkpoint.Series
) -> Position:
    """Load the newest checkpoint that is whole, or start."""
    abstract = jax.eval_shape(lambda: start(algorithm, population))
    found = saved.load_latest(abstract, warn=warnings.warn)
    if found:
        carry, info = found
        return Position(carry, info["update"], np.asarray(info["env_steps"], np.int64))
    marker = out / SAVED
    if marker.exists():
        raise checkpoint.CheckpointError(
            f"out: {out} had checkpoints ({marker.read_text().strip()}), and none is left; restore "
            "them to resume the run, or choose another folder"
        )
    return Position(start(algorithm, population), 0, np.zeros(population.size, np.int64))


def _train(
    program: Program,
    position: Position,
    num_updates: int,
    options: RunOptions,
    population: Population,
    sinks: tuple[MetricsStore, *tuple[DroppableSink, ...]],
    saved: checkpoint.Series,
    stopping: Sequence[int],
) -> Position:
    """Run chunks until the end or a signal; save now and then, and at the end."""
    progress = ProgressLine(num_updates, position.update, options.progress)
    frozen = set(np.flatnonzero(~np.asarray(position.carry.alive[: population.size])))
    begun, unsaved, score = position.update, 0, float("nan")
    try:
        while position.update < num_updates and not stopping:
            before = position.update
            position, metrics = _advance(program, position, num_updates)
            table = tabulate(population.rows, metrics, before)
            for sink in sinks:
                sink(table, before)
            score = _mean_return(metrics)
            progress.advance(position.update, int(position.env_steps.sum()), score)
            _warn_of_frozen(population, metrics["alive"], frozen, before)
            unsaved += 1
            if unsaved == options.checkpoint_every:
                _save(program, position, score, saved)
                unsaved = 0
        if unsaved or position.update == begun:
            _save(program, position, score, saved)
    except (OSError, checkpoint.CheckpointError) as error:
        raise checkpoint.CheckpointError(
            f"out: {options.folder} cannot be written ({error}); checkpoints up to update "
            f"{max(saved.updates(), default=0)} are kept; free room and resume"
        ) from error
    finally:
        progress.close()
        for dashboard in sinks[1:]:
            dashboard.close()
    return position


def _advance(
    program: Program, position: Position, num_updates: int
) -> tuple[Position, dict[str, np.ndarray]]:
    """Run one chunk, up to the next boundary; `env_steps` of its metrics count from the start."""
    carry, done, env_steps = position
    length = min(program.room - done % program.room, num_updates - done)
    carry, metrics = program(length, carry)
    steps = env_steps[:, None] + metrics["env_steps"].cumsum(axis=1, dtype=np.int64)
    return Position(carry, done + length, steps[:, -1]), metrics | {"env_steps": steps}


def _save(program: Program, position: Position, score: float, saved: checkpoint.Series) -> None:
    host = program.plan.trim(jax.device_get(position.carry))
    saved.save(position.update, host, score, {"env_steps": position.env_steps.tolist()})
    text = json.dumps({"update": position.update})
    checkpoint.write_atomically(saved.folder.parent / SAVED, text)


def _warn_of_frozen(
    population: Population, alive: np.ndarray, frozen: set[int], before: int
) -> None:
    """Report members that froze in a chunk, `alive [num_members, updates]`, and add them."""
    for member in sorted(set(np.flatnonzero(~alive[:, -1])) - frozen):
        frozen.add(member)
        update = before + 1 + int(np.argmin(alive[member]))
        warnings.warn(
            f"member {name_of(population.rows[member])!r} is frozen: its parameters or losses are "
            f"no longer finite at update {update}",
            stacklevel=4,
        )


def _mean_return(metrics: dict[str, np.ndarray]) -> float:
    """Mean return of the episodes that finished in a chunk; NaN: none did."""
    values, counts = metrics["return"], metrics["episodes"]
    counts = np.where(np.isfinite(values), counts, 0)
    total = counts.sum()
    return float((np.nan_to_num(values) * counts).sum() / total) if total else float("nan")


def _as_dict(settings: Any) -> Any:
    return dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else settings


class RunEstimate(NamedTuple):
    """What a run would take."""

    num_bytes: int  # on all devices together: state, experience, temporaries
    seconds: float  # after compilation, at most
    env_steps: int  # of every member


def estimate(
    algorithm: Algorithm, population: Population, num_updates: int, options: RunOptions
) -> RunEstimate:
    """Foresee a run's memory and time from a chunk that was compiled in a hurry.

    On a CPU the memory is that of the run. The time is an upper bound, up to six times too long,
    because the compiler's optimisations are left out: they are most of the compile time.
    """
    check_hypers(population.hypers)
    plan = plan_for(algorithm, population, options.group)
    carry = place(algorithm, plan, start(algorithm, population), num_updates)
    program = compile_chunk(algorithm, population, plan, options.chunk, carry, optimize=False)
    length, times = min(3, options.chunk), []
    for _ in range(2):
        began = time.monotonic()
        carry, metrics = program(length, carry)
        times.append(time.monotonic() - began)
    per_update = int(metrics["env_steps"][0, 0])
    return RunEstimate(
        program.num_bytes, min(times) / length * num_updates, per_update * num_updates
    )
