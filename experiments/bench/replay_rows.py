"""Measure what a replay buffer costs under `run`: an update with 10,000 rows and with 1,000,000.

The learner is DQN on CartPole. A pair is one chunk of each size, the second right after the first;
the order alternates. The result is the median over pairs of the ratio of the seconds per update,
with a 95 % bootstrap interval.

python experiments/bench/replay_rows.py
python experiments/bench/replay_rows.py --members 1 --pairs 5
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

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
from purejaxrl.running import chunk
from purejaxrl.running.population import populate, seeds
from purejaxrl.study.stats import bootstrap_interval
from purejaxrl.validation import require_count

ENV, ENV_PARAMS = envs.make("CartPole-v1")


def make(rows: int) -> Algorithm:
    """Make DQN with a buffer of so many rows."""
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


def main(settings: Settings) -> None:
    few, many = Timed(settings.few, settings), Timed(settings.many, settings)
    seconds = np.empty((settings.pairs, 2))
    for pair in range(settings.pairs):
        for i in (0, 1) if pair % 2 == 0 else (1, 0):
            seconds[pair, i] = (few, many)[i].seconds_per_update()
    ratio = bootstrap_interval(seconds[:, 1] / seconds[:, 0], np.median, num_resamples=20_000)
    megabytes = [round(timed.program.num_bytes / 2**20, 1) for timed in (few, many)]
    row = {
        "members": settings.members,
        "few_ms": round(1e3 * np.median(seconds[:, 0]), 4),
        "many_ms": round(1e3 * np.median(seconds[:, 1]), 4),
        "ratio": round(ratio.value, 3),
        "low": round(ratio.low, 3),
        "high": round(ratio.high, 3),
        "few_mb": megabytes[0],
        "many_mb": megabytes[1],
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    write_table(pd.DataFrame([row]), settings.out / "replay_rows.csv")


if __name__ == "__main__":
    command(main, Settings)
