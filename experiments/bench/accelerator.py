"""Measure a machine's accelerator in one command: training, meta-learning, and a few tests.

Every case runs in a process of its own, and is kept as soon as it is done. If the bench is killed
and started again, it measures what is missing. It starts no case after `--minutes`; then the same
command measures the rest.

python experiments/bench/accelerator.py
python experiments/bench/accelerator.py --purejaxrl PATH --peer-python VENV/bin/python

The peers need a virtual environment with their packages, in which JAX finds the accelerator. OUT
gets `accelerator_DEVICE.csv`, and `accelerator.md`, the tables of all devices.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ppo_throughput import SCRIPTS, updates_of
from processes import WORKERS, run_worker, write_table

from purejaxrl.launch import command, say
from purejaxrl.validation import require, require_count, require_known

TESTS = ("tests/algos/test_ppo.py", "tests/purejaxrl/running/test_runner.py")
"""Tests that are also run on the accelerator."""
CAPACITY = 4000
"""Levels in GROOVE's buffer, as published."""
NO_PREALLOCATION = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Without preallocation, the memory that is reported is the memory that is used."""
PEERS = {"rejax": SCRIPTS["rejax"], "PureJaxRL": SCRIPTS["purejaxrl"]}


class Case(NamedTuple):
    """One measurement: the first three fields tell it from the others."""

    part: str
    contender: str
    size: int  # members, agents, or pairs
    command: tuple[Any, ...]
    environment: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Settings:
    """What to measure, and how long."""

    parts: tuple[str, ...] = ("CartPole", "Breakout", "Brax", "LPG", "GROOVE", "evolution", "tests")
    """What to measure, in this order."""
    members: tuple[int, ...] = (1, 64, 256, 1024, 4096)
    """Population sizes on CartPole."""
    breakout_members: tuple[int, ...] = (1, 64, 1024)
    """Population sizes on Breakout-MinAtar."""
    brax_members: tuple[int, ...] = (1, 16)
    """Population sizes on Brax's ant (backend spring)."""
    agents: tuple[int, ...] = (16, 64, 256, 512)
    """Agents of LPG and GROOVE."""
    pairs: tuple[int, ...] = (16, 64, 256, 512)
    """Pairs of candidates of the evolution."""
    rule_width: int = 256
    """Width of the rules."""
    num_envs: int = 64
    """Environments of an agent that learns by a rule."""
    repeats: int = 3
    """Timed runs in each process, after one run to warm up."""
    case_seconds: float = 240.0
    """Seconds after which a case is given up."""
    minutes: float = 40.0
    """Minutes after which no case is started."""
    purejaxrl: Path | None = None
    """Checkout of PureJaxRL; without one, it is not measured."""
    peer_python: Path | None = None
    """Python interpreter with the peers' packages; without one, no peer is measured."""
    retry_failed: bool = False
    """Whether cases that failed are measured again."""
    out: Path = Path("docs/results")
    """Folder for the tables."""

    def __post_init__(self):
        require_count(self, "rule_width", "num_envs", "repeats")
        for part in self.parts:
            require_known("part", part, PARTS)
        for name in ("members", "breakout_members", "brax_members", "agents", "pairs"):
            require(min(getattr(self, name), default=1) >= 1, self, name, "integers >= 1")
        for name in ("case_seconds", "minutes"):
            require(getattr(self, name) > 0, self, name, "a number > 0")
        valid = self.purejaxrl is None or (self.purejaxrl / "purejaxrl" / "ppo.py").is_file()
        require(valid, self, "purejaxrl", "a folder that holds purejaxrl/ppo.py")
        valid = self.peer_python is None or self.peer_python.is_file()
        require(valid, self, "peer_python", "a Python interpreter")


def peers_of(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the peers that can be measured, each with its environment variables."""
    if settings.peer_python is None:
        return {}
    found = {"rejax": {}}
    if settings.purejaxrl:
        found["PureJaxRL"] = {"PYTHONPATH": str((settings.purejaxrl / "purejaxrl").absolute())}
    return found


def training(env: str, members: Sequence[int], settings: Settings) -> Iterator[Case]:
    """PPO, ours and the peers'; no peer has settings for Brax's ant."""
    for count in members:
        words = env, count, updates_of(env, count), settings.repeats
        ours = sys.executable, WORKERS / SCRIPTS["ours"], *words
        yield Case(f"PPO, {env}", "ours", count, ours)
        for peer, environment in peers_of(settings).items() if env != "ant" else ():
            theirs = settings.peer_python.absolute(), WORKERS / PEERS[peer], *words
            yield Case(f"PPO, {env}", peer, count, theirs, environment)


def meta_learning(kind: str, sizes: Sequence[int], settings: Settings, *more: int):
    """Meta-steps; `kind` is one of those in `workers/meta_step.py`."""
    for size in sizes:
        agents = 2 * size if kind == "evolution" else size
        words = kind, agents, settings.num_envs, 20, 5, settings.rule_width, settings.repeats
        command = sys.executable, WORKERS / "meta_step.py", *words, *more
        yield Case(NAMES[kind], "ours", size, command)


def tests(settings: Settings) -> Iterator[Case]:
    """Tests on the accelerator, each file as a case."""
    for file in TESTS:
        yield Case("tests", file, 1, (sys.executable, WORKERS / "tests.py", file))


NAMES = {"step": "LPG", "groove": "GROOVE", "evolution": "evolution of TA-LPG"}
PARTS = {
    "CartPole": lambda s: training("CartPole-v1", s.members, s),
    "Breakout": lambda s: training("Breakout-MinAtar", s.breakout_members, s),
    "Brax": lambda s: training("ant", s.brax_members, s),
    "LPG": lambda s: meta_learning("step", s.agents, s),
    "GROOVE": lambda s: meta_learning("groove", s.agents, s, CAPACITY),
    "evolution": lambda s: meta_learning("evolution", s.pairs, s),
    "tests": tests,
}
KEY = ["part", "contender", "size"]
FIXED = ["rule_width", "num_envs", "repeats"]
"""Settings that all rows of a table share."""


def kept_rows(path: Path, settings: Settings) -> list[dict[str, Any]]:
    """Read what was measured before.

    Raises:
        ValueError: if it was measured with other settings.
    """
    if not path.exists():
        return []
    rows = pd.read_csv(path)
    for name in FIXED:
        if (rows[name] != getattr(settings, name)).any():
            raise ValueError(
                f"{name}: {getattr(settings, name)} is not valid; {path} was measured with "
                f"{rows[name].iloc[0]}: give that, or another `out`"
            )
    if settings.retry_failed and "failed" in rows:
        rows = rows[rows["failed"].isna()]
    say(f"{len(rows)} cases were measured before: {path}")
    return rows.to_dict("records")


def row(case: Case, result: dict | str) -> dict[str, Any]:
    """Make a row of the table of what a case's worker measured, or why there is nothing."""
    about = dict(zip(KEY, case, strict=False))
    if isinstance(result, str):
        return about | {"failed": result}
    seconds = np.asarray(result["seconds"])
    return about | {
        "seconds": round(float(np.median(seconds)), 5),
        "steps_per_s": round(float(np.median(np.asarray(result["env_steps"]) / seconds))),
        "compile_s": round(result["compile_s"], 1),
        "host_mb": round(result["peak_mb"]),
        "device_mb": round(result["device_mb"]),
        "matmul": "default" if result["precision"] == "None" else result["precision"],
    }


def main(settings: Settings) -> None:
    device = run_worker([sys.executable, WORKERS / "device.py"], settings.case_seconds)
    if isinstance(device, str):
        raise ValueError(f"no device can be used: {device}")
    path = settings.out / f"accelerator_{device['device']}.csv"
    rows = kept_rows(path, settings)
    done = {tuple(one[name] for name in KEY) for one in rows}
    began, left = time.monotonic(), 0
    for case in (case for part in settings.parts for case in PARTS[part](settings)):
        if case[:3] in done:
            continue
        if time.monotonic() - began > 60 * settings.minutes:
            left += 1
            continue
        say(" · ".join(map(str, case[:3])))
        environment = NO_PREALLOCATION | case.environment
        result = run_worker(case.command, settings.case_seconds, environment)
        rows.append(row(case, result) | {name: getattr(settings, name) for name in FIXED})
        write_table(pd.DataFrame(rows), path)
    write_page(settings.out)
    if left:
        say(f"{left} cases are left; the same command measures them")


def write_page(out: Path) -> None:
    """Write `accelerator.md`, the tables of all devices."""
    lines = [TITLE]
    for path in sorted(out.glob("accelerator_*.csv")):
        frame = pd.read_csv(path).dropna(axis="columns", how="all").fillna("")
        name = path.stem.removeprefix("accelerator_").replace("_", " ")
        lines += [f"## {name}", "", f"[Data]({path.name}).", ""]
        lines += ["| " + " | ".join(map(str, values)) + " |" for values in (
            frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)
        )]  # fmt: skip
        lines.append("")
    (out / "accelerator.md").write_text("\n".join(lines))


TITLE = """# One command for an accelerator

`make bench-accelerator` measures PPO's training, meta-steps of LPG and GROOVE, and generations of
an evolution, and writes this page. `seconds` are for one timed run of a few updates, or for one
meta-step or generation; `size` is the number of members, agents or pairs. `host_mb` is the peak
memory of the process, and `device_mb` that of the fullest device (0: it is not known, as on a CPU).
Compile time is apart.
"""


if __name__ == "__main__":
    command(main, Settings)
