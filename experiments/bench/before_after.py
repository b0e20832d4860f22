"""Compare the speed of two versions of this repository, in interleaved pairs of short batches.

For every case, each version trains in a process of its own that compiles once and then waits. A
pair is one batch of each version, the second right after the first. The order alternates, so that a
drift of the machine's speed affects both alike. The result is the median over pairs of the ratio
after / before in environment steps per second, with a 95 % bootstrap interval.

- `ppo`: `run`, 64 members on CartPole-v1.
- `ppo_make_train`: the same as one pure function, without the runner's work on the host.
- `lpg`, `groove`, `evolution`: `run`, one rule at the default settings of `lpg_meta_train.py`,
  `groove_meta_train.py` and `ta_lpg_meta_train.py`.

python experiments/bench/before_after.py --before PATH_OF_A_CHECKOUT
python experiments/bench/before_after.py --before PATH_OF_A_CHECKOUT --cases ppo --pairs 5
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from processes import WORKERS, error_in, without_cache, write_table

from purejaxrl.launch import command, say
from purejaxrl.study.stats import bootstrap_interval
from purejaxrl.validation import require, require_count, require_names

CASES = ("ppo", "ppo_make_train", "lpg", "groove", "evolution")


@dataclass(frozen=True)
class Settings:
    """What to compare."""

    before: Path
    """Checkout of the earlier version."""
    after: Path = Path(__file__).parents[2]
    """Checkout of the later version; by default, this one."""
    pairs: int = 15
    """Timed batches of each version, per case."""
    cases: tuple[str, ...] = CASES
    """What to train."""
    out: Path = Path("results/bench")
    """Folder for the tables."""

    def __post_init__(self):
        for name in ("before", "after"):
            valid = (getattr(self, name) / "purejaxrl" / "algorithm.py").is_file()
            require(valid, self, name, "a checkout, which holds purejaxrl/algorithm.py")
        require_count(self, "pairs")
        require_names(self, "cases", "case", CASES)


class Worker:
    """A process that trains a batch whenever it is told to; see `workers/train_batches.py`."""

    def __init__(self, command: Sequence[Any]):
        """Start the process and wait until it has compiled and warmed up.

        Raises:
            ValueError: if it fails, with its error.
        """
        self.name = " ".join(str(word) for word in command[1:])
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=without_cache(),
            text=True,
        )
        self.compile_s = self._answer()["compile_s"]

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.kill()
        self.process.communicate()
        self.stderr.close()

    def train_batch(self) -> dict[str, float]:
        """Train one batch; return its `seconds` and `env_steps`."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.stderr.seek(0)
        raise ValueError(f"worker {self.name}: {error_in(self.stderr.read())}")


def train_pairs(before: Worker, after: Worker, num_pairs: int) -> pd.DataFrame:
    """Time both versions in turn.

    Args:
        before, after: workers that are ready.
        num_pairs: batches of each; `before` goes first in every other pair.

    Returns:
        A row per pair: `first`, and of each version its `_seconds` and `_env_steps`.
    """
    rows = []
    for pair in range(num_pairs):
        order = [("before", before), ("after", after)][:: 1 if pair % 2 == 0 else -1]
        row = {"pair": pair, "first": order[0][0]}
        for name, worker in order:
            row |= {f"{name}_{key}": value for key, value in worker.train_batch().items()}
        rows.append(row)
    return pd.DataFrame(rows)


def summarize(pairs: pd.DataFrame) -> dict[str, float | str]:
    """Compare the speeds of one case, in environment steps per second.

    Args:
        pairs: as `train_pairs` returns them.

    Returns:
        `ratio`, the median over pairs of after / before, with `low` and `high`, its 95 % percentile
        bootstrap interval over pairs; each version's median speed; and in how many pairs both made
        equally many steps (all of them, where the versions train alike).
    """
    before, after = (pairs[f"{v}_env_steps"] / pairs[f"{v}_seconds"] for v in ("before", "after"))
    estimate = bootstrap_interval((after / before).to_numpy(), np.median, num_resamples=20_000)
    same = int((pairs["before_env_steps"] == pairs["after_env_steps"]).sum())
    return {
        "ratio": round(estimate.value, 4),
        "low": round(estimate.low, 4),
        "high": round(estimate.high, 4),
        "before_steps_per_s": round(before.median()),
        "after_steps_per_s": round(after.median()),
        "same_steps": f"{same}/{len(pairs)}",
    }


def compare(case: str, settings: Settings, scratch: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measure one case; return its row of the summary, and its pairs."""

    def start(version: str) -> Worker:
        say(f"{case}: {version} compiles …")
        root, out = getattr(settings, version), scratch / case / version
        return Worker([sys.executable, WORKERS / "train_batches.py", root, case, out])

    with start("before") as before, start("after") as after:
        pairs = train_pairs(before, after, settings.pairs)
        compile_s = {
            "before_compile_s": round(before.compile_s, 1),
            "after_compile_s": round(after.compile_s, 1),
        }
    pairs.insert(0, "case", case)
    return {"case": case, **summarize(pairs), **compile_s}, pairs


def main(settings: Settings) -> None:
    rows, pairs = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for case in settings.cases:
            row, measured = compare(case, settings, Path(scratch))
            rows.append(row)
            pairs.append(measured)
            settings.out.mkdir(parents=True, exist_ok=True)
            pd.concat(pairs).to_csv(settings.out / "before_after_pairs.csv", index=False)
            write_table(pd.DataFrame(rows), settings.out / "before_after.csv")


if __name__ == "__main__":
    command(main, Settings)
