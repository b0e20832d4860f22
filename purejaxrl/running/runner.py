"""The same computation as `make_train`, for people: observable, resumable, on many devices.

`update` is scanned in chunks on the device. Between chunks, never inside, the host writes metrics
and checkpoints, shows progress, and listens for a signal. Chunk boundaries are counted in
updates, so that a run killed at any moment and resumed ends bit for bit where an unbroken one ends.
"""

import contextlib
import dataclasses
import functools
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from purejaxrl.algorithm import Algorithm, Task, update
from purejaxrl.running import checkpoint, record
from purejaxrl.running.devices import Layout, layout
from purejaxrl.running.logs import ProgressLine
from purejaxrl.running.metrics import MetricsStore, read_metrics, tabulate
from purejaxrl.running.population import Population, name_of
from purejaxrl.running.sinks import Sink
from purejaxrl.validation import check_hypers, require, require_count


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How to run, as against what to run: none of it changes a result."""

    out: str = "results/run"
    """Folder for metrics, checkpoints and plots."""
    resume: bool = False
    """Continue the run in `out`, or extend a finished one; start it if there is none."""
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
        require(self.group is None or self.group >= 1, self, "group", "an integer >= 1, or None")


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


class Carry(NamedTuple):
    """What a checkpoint holds, leaves `[num_members, ...]`."""

    state: Any
    alive: jax.Array  # bool


def run(
    algorithm: Algorithm,
    population: Population,
    num_updates: int,
    options: RunOptions,
    *,
    horizon: int | None = None,
    settings: Any = None,
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
        sinks: where else metrics go, chunk by chunk.
        devices: what to run on; all devices by default.

    Returns:
        The final states and where everything is. A member whose parameters or losses became
        NaN or infinite is frozen at its last good state, reported, and leaves the others alone.

    Raises:
        ValueError: for invalid arguments, or an `out` that holds another run.
        checkpoint.CheckpointError: if `out` cannot be written, or no checkpoint can be used.
        Stopped: after SIGTERM or Ctrl-C, everything saved.
    """
    if num_updates < 1:
        raise ValueError(f"num_updates: {num_updates} is not valid; it must be an integer >= 1")
    check_hypers(population.hypers)
    out = Path(options.out)
    record.claim(out, options.resume, record.identity(algorithm, population), settings)
    plan = plan_for(algorithm, population, options, list(devices) if devices else None)
    store = MetricsStore(out / "metrics")
    saved = checkpoint.Series(out / "checkpoints", options.keep_last)

    abstract = jax.eval_shape(lambda: _start(algorithm, population))
    found = saved.load_latest(abstract, warn=warnings.warn)
    if found:
        carry, done = found[0], found[1]["update"]
        env_steps = np.asarray(found[1]["env_steps"], np.int64)
        if done > num_updates:
            raise ValueError(
                f"num_updates: {num_updates} is not valid; the run in {out} already did {done}"
            )
    else:
        carry, done = _start(algorithm, population), 0
        env_steps = np.zeros(population.size, np.int64)
    store.check(done)
    store.rewind(done)
    carry = _with_horizon(carry, horizon or num_updates)
    begun = done
    carry = plan.place(carry, Carry(algorithm.partition, None))
    hypers = plan.place(population.hypers)
    chunk = plan.jit(_chunk, static_argnums=(0, 1, 2), donate_argnums=4)
    progress = ProgressLine(num_updates, done, options.progress)
    failed: set[int] = set(np.flatnonzero(~np.asarray(carry.alive[: population.size])))

    def save() -> None:
        host = plan.trim(jax.device_get(carry))
        saved.save(done, host, score, {"env_steps": env_steps.tolist()})

    score, unsaved = float("nan"), 0
    with _signals() as stopping:
        try:
            while done < num_updates and not stopping:
                length = min(options.chunk - done % options.chunk, num_updates - done)
                carry, metrics = chunk(
                    algorithm, plan, options.chunk, jnp.int32(length), carry, hypers
                )
                metrics = jax.device_get(plan.trim(metrics))
                metrics = {name: values[:, :length] for name, values in metrics.items()}
                metrics["env_steps"] = env_steps[:, None] + metrics["env_steps"].cumsum(
                    axis=1, dtype=np.int64
                )
                env_steps = metrics["env_steps"][:, -1]
                table = tabulate(population.rows, metrics, done)
                for sink in (store, *sinks):
                    sink(table, done)
                done += length
                unsaved += 1
                score = _weighted_mean(metrics["return"], metrics["episodes"])
                progress.advance(done, int(env_steps.sum()), score)
                for member in set(np.flatnonzero(~metrics["alive"][:, -1])) - failed:
                    failed.add(member)
                    warnings.warn(
                        f"member {name_of(population.rows[member])!r} is frozen: its parameters "
                        f"or losses are no longer finite (within updates {done - length + 1} to "
                        f"{done})",
                        stacklevel=2,
                    )
                if unsaved == options.checkpoint_every:
                    save()
                    unsaved = 0
            if unsaved or done == begun:
                save()
        except OSError as error:
            raise checkpoint.CheckpointError(
                f"out: {out} cannot be written ({error}); checkpoints up to update "
                f"{max(saved.updates(), default=0)} are kept; free room and resume"
            ) from error
        finally:
            progress.close()
    if stopping and done < num_updates:
        raise Stopped(f"stopped at update {done} of {num_updates}; saved in {out}, resume to go on")
    host = plan.trim(jax.device_get(carry))
    return Result(host.state, host.alive, population, out)


class Estimate(NamedTuple):
    """What a run would take."""

    bytes: int  # on all devices together: state, experience, temporaries
    seconds: float  # after compilation
    env_steps: int  # of every member


def estimate(
    algorithm: Algorithm, population: Population, num_updates: int, options: RunOptions
) -> Estimate:
    """Compile a chunk and time a few updates, to foresee a run's memory and time."""
    check_hypers(population.hypers)
    plan = plan_for(algorithm, population, options)
    carry = _with_horizon(_start(algorithm, population), num_updates)
    carry = plan.place(carry, Carry(algorithm.partition, None))
    hypers = plan.place(population.hypers)
    probe = jnp.int32(min(3, options.chunk))
    chunk = plan.jit(_chunk, static_argnums=(0, 1, 2))
    compiled = chunk.lower(algorithm, plan, options.chunk, probe, carry, hypers).compile()
    times = []
    for _ in range(2):
        began = time.monotonic()
        _, metrics = jax.block_until_ready(compiled(probe, carry, hypers))
        times.append(time.monotonic() - began)
    memory = compiled.memory_analysis()
    size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    per_update = int(metrics["env_steps"][0, 0])
    return Estimate(
        size * plan.mesh.size, min(times) / int(probe) * num_updates, per_update * num_updates
    )


def plan_for(
    algorithm: Algorithm,
    population: Population,
    options: RunOptions,
    devices: list[jax.Device] | None = None,
) -> Layout:
    """Lay members over the devices, or a meta-learner's agents."""
    num_agents = algorithm.num_agents if algorithm.partition is not None else None
    return layout(population.size, devices, options.group, num_agents)


def member_update(algorithm: Algorithm, carry: Carry, hypers: Any) -> tuple[Carry, dict]:
    """Update one member, unless it has failed: then, or if it fails now, keep it as it was."""
    state, metrics = update(algorithm, carry.state, hypers)
    leaves = jax.tree.leaves(algorithm.vital(state, metrics))
    alive = carry.alive & jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves]))
    state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), state, carry.state)
    steps = jnp.where(alive, metrics["env_steps"], 0)
    return Carry(state, alive), metrics | {"alive": alive, "env_steps": steps}


def _start(algorithm: Algorithm, population: Population) -> Carry:
    """Start members one by one: alike however many there are, and no batched QR to deadlock."""
    return _start_members(algorithm, population.keys, population.hypers, population.env_params)


@functools.partial(jax.jit, static_argnums=0)
def _start_members(algorithm: Algorithm, *members: Any) -> Carry:
    def one(member: tuple) -> Carry:
        key, hypers, env_params = member
        state = algorithm.init(key, hypers, Task(env_params, jnp.int32(1)))
        strong = jax.tree.map(_without_weak_type, state)  # as a checkpoint will restore it
        return Carry(strong, jnp.bool_(True))

    return jax.lax.map(one, members)


def _without_weak_type(x: jax.Array) -> jax.Array:
    is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key else jax.lax.convert_element_type(x, x.dtype)


def _with_horizon(carry: Carry, horizon: int) -> Carry:
    task = carry.state.task
    task = task._replace(horizon=np.full_like(task.horizon, horizon))
    return carry._replace(state=carry.state._replace(task=task))


def _chunk(
    algorithm: Algorithm, plan: Layout, room: int, length: jax.Array, carry: Carry, hypers: Any
) -> tuple[Carry, dict[str, jax.Array]]:
    """Run `length` updates of every member, at most `room`.

    The length is traced, so that one compilation serves every chunk, the last one too.

    Returns:
        The carry, and metrics `[padded, room]`, of which the first `length` are filled.
    """

    def member(carry: Carry, hypers: Any):
        shapes = jax.eval_shape(lambda: member_update(algorithm, carry, hypers)[1])
        empty = jax.tree.map(lambda x: jnp.zeros((room, *x.shape), x.dtype), shapes)

        def step(i, loop):
            carry, seen = loop
            carry, metrics = member_update(algorithm, carry, hypers)
            return carry, jax.tree.map(lambda all, x: all.at[i].set(x), seen, metrics)

        return jax.lax.fori_loop(0, length, step, (carry, empty))

    laid = Carry(algorithm.partition, None)
    return plan.map(member, (laid, None), (laid, None))(carry, hypers)


def _weighted_mean(values: np.ndarray, counts: np.ndarray) -> float:
    counts = np.where(np.isfinite(values), counts, 0)
    total = counts.sum()
    return float((np.nan_to_num(values) * counts).sum() / total) if total else float("nan")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; a second Ctrl-C interrupts at once."""
    received: list[int] = []

    def remember(number, frame):
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: leave signals alone
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
