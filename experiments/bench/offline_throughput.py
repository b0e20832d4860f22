"""Measure IQL and TD3+BC beside unifloral's: updates per second, without compile time.

All members share one dataset, 100,000 steps of Pendulum, and both codes have the same
hyperparameters. An update of TD3+BC is two steps of the critics and one of the policy. Every
contender runs in a process of its own, one at a time, with all members at a time and with one after
the other; the faster arrangement counts. Every round runs each once, so that a drift of the
machine's speed affects all alike. `peak_mb` says what more members cost.

python experiments/bench/offline_throughput.py --unifloral PATH
python experiments/bench/offline_throughput.py --cases iql:1 iql:16 --rounds 1
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from processes import WORKERS, fastest_rows, measure_cases, run_rounds, run_worker

from purejaxrl.launch import command
from purejaxrl.validation import require, require_count

ALGORITHMS = ("iql", "td3_bc")


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    cases: tuple[str, ...] = ("iql:1", "iql:16", "td3_bc:1", "td3_bc:16")
    """An algorithm, and the number of its members."""
    updates: int = 3_200
    """Updates of all members together, in one timed run."""
    rounds: int = 2
    """Processes per contender and arrangement; every round runs each once."""
    repeats: int = 3
    """Timed runs in each process, after one run to warm up."""
    time_limit: float = 600.0
    """Seconds after which a process is stopped."""
    unifloral: Path | None = None
    """Checkout of unifloral; without one, it is not measured."""
    out: Path = Path("results/bench/offline_throughput.csv")
    """File for the table."""

    def __post_init__(self):
        require_count(self, "updates", "rounds", "repeats")
        for case in self.cases:
            what, _, number = case.partition(":")
            valid = what in ALGORITHMS and number.isdecimal() and int(number) > 0
            require(valid, self, "cases", "some of iql:N and td3_bc:N, with N an integer >= 1")
        require(self.time_limit > 0, self, "time_limit", "a number of seconds > 0")
        path = self.unifloral
        valid = path is None or (path / "algorithms" / "iql.py").is_file()
        require(valid, self, "unifloral", "a folder that holds algorithms/iql.py")


def measure(
    what: str, number: int, contender: str, arrangement: str, settings: Settings
) -> dict | str:
    """Run one worker; return what it measured, or the reason why there is nothing."""
    environment = {}
    if contender == "unifloral":
        environment["PYTHONPATH"] = str((settings.unifloral / "algorithms").absolute())
    updates = max(1, settings.updates // number)
    words = [WORKERS / f"offline_{contender}.py", what, number, updates, settings.repeats]
    return run_worker([sys.executable, *words, arrangement], settings.time_limit, environment)


def rows_of(case: str, settings: Settings) -> list[dict]:
    """Measure a case; return a row per contender."""
    what, _, number = case.partition(":")
    contenders = ["ours", "unifloral"] if settings.unifloral else ["ours"]
    arrangements = ("vmap", "map") if int(number) > 1 else ("map",)
    found = run_rounds(
        [(c, how) for c in contenders for how in arrangements], settings.rounds,
        lambda one: measure(what, int(number), *one, settings),
        lambda one: f"{' '.join(one)}, {case}",
    )  # fmt: skip
    about = {"case": what, "members": int(number)}
    return [about | row for row in fastest_rows(found, "updates_per_s")]


def main(settings: Settings) -> None:
    measure_cases(settings.cases, lambda case: rows_of(case, settings), settings.out)


if __name__ == "__main__":
    command(main, Settings)
