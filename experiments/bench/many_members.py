"""Measure how the runner carries thousands of members: PPO on CartPole, one row a population.

`ms_per_member_update` includes metrics, but no checkpoint; `host_share` is the part of that time in
which the devices do not compute. A checkpoint has all members; metrics have a row for each member
and update.

python experiments/bench/many_members.py
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from processes import WORKERS, console, run_worker, write_table

from purejaxrl.launch import command
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


def main(settings: Settings) -> None:
    rows = []
    for members in settings.members:
        with tempfile.TemporaryDirectory() as folder:
            words = [members, settings.chunk, settings.chunks, folder]
            result = run_worker([sys.executable, WORKERS / "members.py", *words])
        if isinstance(result, str):
            console.print(f"{members} members: {result}", markup=False, soft_wrap=True)
            continue
        numbers = {k: float(f"{v:.4g}") for k, v in result.items() if k != "precision"}
        rows.append({"members": members} | numbers)
        write_table(pd.DataFrame(rows), settings.out)
    if not rows:
        raise ValueError("nothing was measured: every worker failed")


if __name__ == "__main__":
    command(main, Settings)
