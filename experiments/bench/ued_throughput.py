"""Measure students on mazes beside JaxUED: environment steps per second, without compile time.

Every contender runs in a process of its own, one at a time, with one thread. Every round runs each
contender once, so that a drift of the machine's speed affects all alike. Batch and epochs are
JaxUED's: 32 mazes × 256 steps, 5 epochs of one minibatch. Ours runs with JaxUED's network
(convolution, LSTM of 256), with a GRU in place of the LSTM, and with the network of our experiments
(GRU of 64). PLR replays in every update, and ACCEL in every second one, so that all do the same
work. The students of PAIRED have these networks, its teachers each code's own.

python experiments/bench/ued_throughput.py --jaxued PATH
python experiments/bench/ued_throughput.py --jaxued PATH --cases dr --rounds 1
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ppo_throughput import PEER_PACKAGES
from processes import (
    WORKERS,
    columns_of,
    measure_cases,
    peer_python,
    run_rounds,
    run_worker,
    steps_per_second,
)

from purejaxrl.launch import command
from purejaxrl.validation import require, require_count

CASES = ("dr", "plr", "accel", "paired")
NETWORKS = {"ours, LSTM of 256": "lstm", "ours, GRU of 256": "gru", "ours, GRU of 64": "small"}
CONTENDERS = (*NETWORKS, "jaxued")
ONE_THREAD = {"PUREJAXRL_CPU_DEVICES": "1", "PJRT_NPROC": "1"}


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    cases: tuple[str, ...] = CASES
    """Curricula: dr, plr, accel or paired."""
    updates: int = 4
    """Updates in a timed run, an even number."""
    rounds: int = 2
    """Processes per contender; every round runs each once."""
    repeats: int = 3
    """Timed runs in each process, after one run to warm up."""
    time_limit: float = 600.0
    """Seconds after which a process is stopped."""
    jaxued: Path | None = None
    """Checkout of JaxUED; without one, it is not measured."""
    out: Path = Path("results/bench/ued_throughput.csv")
    """File for the table."""

    def __post_init__(self):
        require_count(self, "updates", "rounds", "repeats")
        require(self.updates % 2 == 0, self, "updates", "an even number")
        valid = bool(self.cases) and set(self.cases) <= set(CASES)
        require(valid, self, "cases", f"some of {', '.join(CASES)}")
        require(self.time_limit > 0, self, "time_limit", "a number of seconds > 0")
        valid = self.jaxued is None or (self.jaxued / "examples" / "maze_plr.py").is_file()
        require(valid, self, "jaxued", "a folder that holds examples/maze_plr.py")


def measure(case: str, contender: str, settings: Settings) -> dict | str:
    """Run one worker; return what it measured, or the reason why there is nothing."""
    environment, numbers = dict(ONE_THREAD), (settings.updates, settings.repeats)
    if contender == "jaxued":
        environment["PYTHONPATH"] = str((settings.jaxued / "src").absolute())
        python = peer_python(Path(".cache/bench-peers"), PEER_PACKAGES)
        words = [python, WORKERS / "jaxued_maze.py", case, *numbers]
    else:
        words = [sys.executable, WORKERS / "students.py", case, NETWORKS[contender], *numbers]
    return run_worker(words, settings.time_limit, environment)


def summarize(case: str, found: dict[str, list[dict]]) -> list[dict]:
    """Make a row per contender: medians over its processes, and the ratio to JaxUED."""
    speed = steps_per_second(found)
    return [
        {
            "curriculum": case,
            "contender": who,
            "steps_per_s": round(steps),
            "over_jaxued": round(steps / speed.get("jaxued", np.nan), 2),
            **columns_of(found[who]),
        }
        for who, steps in speed.items()
    ]


def rows_of(case: str, settings: Settings) -> list[dict]:
    """Measure a curriculum; return a row per contender."""
    found = run_rounds(
        [c for c in CONTENDERS if c != "jaxued" or settings.jaxued], settings.rounds,
        lambda who: measure(case, who, settings),
        lambda who: f"{who}, {case}",
    )  # fmt: skip
    return summarize(case, found)


def main(settings: Settings) -> None:
    measure_cases(settings.cases, lambda case: rows_of(case, settings), settings.out)


if __name__ == "__main__":
    command(main, Settings)
