"""Measure how the runner copes with thousands of members: PPO on CartPole, a row per population.

`ms_per_member_update` includes metrics, but no checkpoint; `host_share` is the part of that time in
which the devices do not compute. A checkpoint has all members; metrics have a row for each member
and update.

python experiments/bench/many_members.py
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from processes import WORKERS, measure_cases, run_worker

from purejaxrl.launch import command, say
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    members: tuple[int, ...] = (1, 64, 1024, 4096)
    """Population sizes."""
    chunk: int = 4
    """Updates of a chunk."""
    chunks: int = 3
    """Chunks over which times are averaged."""
    out: Path = Path("results/bench/many_members.csv")
    """File for the table."""

    def __post_init__(self):
        require_count(self, "chunk", "chunks")
        require(min(self.members, default=0) >= 1, self, "members", "one or more integers >= 1")


def rows_of(members: int, settings: Settings) -> list[dict]:
    """Measure a population; return its row, or none and print why."""
    with tempfile.TemporaryDirectory() as folder:
        words = [members, settings.chunk, settings.chunks, folder]
        result = run_worker([sys.executable, WORKERS / "members.py", *words])
    if isinstance(result, str):
        say(f"{members} members: {result}")
        return []
    numbers = {k: float(f"{v:.4g}") for k, v in result.items() if k != "precision"}
    return [{"members": members} | numbers]


def main(settings: Settings) -> None:
    measure_cases(settings.members, lambda members: rows_of(members, settings), settings.out)


if __name__ == "__main__":
    command(main, Settings)
