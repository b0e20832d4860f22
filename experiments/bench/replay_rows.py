"""Measure what a replay buffer costs under `run`: an update with 10,000 rows and with 1,000,000.

The learner is DQN on CartPole. A pair is one chunk of each size, the second right after the first;
the order alternates. The result is the median over pairs of the ratio of the seconds per update,
with a 95 % bootstrap interval. The table also has the memory that is planned, and what a checkpoint
of all members takes.

python experiments/bench/replay_rows.py
python experiments/bench/replay_rows.py --members 1 --pairs 5
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from processes import write_table

import envs
from algos import dqn
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import command
from purejaxrl.running import checkpoint, chunk
from purejaxrl.running.population import populate, seeds
from purejaxrl.study.stats import bootstrap_interval
from purejaxrl.validation import require_count

ENV, ENV_PARAMS = envs.make("CartPole-v1")


def make(rows: int) -> Algorithm:
    """Make DQN with a buffer of this many rows."""
    return dqn.make(dqn.Config(capacity=rows, warmup_steps=1_000), ENV)


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    few: int = 10_000
    """Rows of the smaller buffer."""
    many: int = 1_000_000
    """Rows of the larger buffer."""
    members: int = 16
    """Members, each with a buffer of its own."""
    updates: int = 512
    """Updates in a chunk."""
    pairs: int = 15
    """Timed chunks of each size."""
    out: Path = Path("results/bench")
    """Folder for the table."""

    def __post_init__(self):
        require_count(self, "few", "many", "members", "updates", "pairs")


class Timed:
    """A population that trains a chunk whenever it is told to."""

    def __init__(self, rows: int, settings: Settings):
        """Compile and warm up."""
        learner, who = make(rows), populate(seeds(settings.members), dqn.Hypers(), ENV_PARAMS)
        plan, self.updates = chunk.plan_for(learner, who), settings.updates
        self.carry = chunk.start(learner, who, plan, settings.updates)
        self.program = chunk.compile_chunk(learner, who, plan, settings.updates, self.carry)
        self.seconds_per_update()

    def seconds_per_update(self) -> float:
        """Train one chunk."""
        began = time.perf_counter()
        self.carry, _ = self.program(self.updates, self.carry)
        jax.block_until_ready(self.carry)
        return (time.perf_counter() - began) / self.updates

    def checkpoint(self) -> tuple[float, float]:
        """Save a checkpoint; return its size in MiB, and the seconds that it took."""
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            checkpoint.save(Path(folder) / "saved", self.carry)
            seconds = time.perf_counter() - began
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            return sum(path.stat().st_size for path in files) / 2**20, seconds


def main(settings: Settings) -> None:
    few, many = Timed(settings.few, settings), Timed(settings.many, settings)
    seconds = np.empty((settings.pairs, 2))
    for pair in range(settings.pairs):
        for i in (0, 1) if pair % 2 == 0 else (1, 0):
            seconds[pair, i] = (few, many)[i].seconds_per_update()
    ratio = bootstrap_interval(seconds[:, 1] / seconds[:, 0], np.median, num_resamples=20_000)
    rows = []
    for timed, size, times in zip(
        (few, many), (settings.few, settings.many), seconds.T, strict=True
    ):
        saved_mb, saved_s = timed.checkpoint()
        rows.append({
            "members": settings.members,
            "rows": size,
            "ms_per_update": round(1e3 * np.median(times), 4),
            "planned_mb": round(timed.program.num_bytes / 2**20, 1),
            "checkpoint_mb": round(saved_mb, 1),
            "checkpoint_s": round(saved_s, 2),
        })  # fmt: skip
    rows[1] |= {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}
    settings.out.mkdir(parents=True, exist_ok=True)
    write_table(pd.DataFrame(rows).round(3), settings.out / "replay_rows.csv")


if __name__ == "__main__":
    command(main, Settings)
