"""Run every contender in its own process, peers in their own environment; print tables."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from purejaxrl.running.logs import say

WORKERS = Path(__file__).parent / "workers"


def peer_python(folder: Path, packages: Sequence[str]) -> Path:
    """Make a virtual environment with the peers' packages unless it exists; return its Python."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        say("making a virtual environment for the peers …")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "ready").touch()
    return python.absolute()


def run_worker(
    command: Sequence[Any],
    time_limit: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict | str:
    """Run a worker to its end, without a compilation cache.

    Args:
        command: the program and its arguments.
        time_limit: seconds after which the worker is stopped.
        environment: variables to add.

    Returns:
        The JSON object on the last line of its output, or the reason why there is none.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=without_cache(environment),
            capture_output=True,
            text=True,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        return f"no result in {time_limit:g} s"
    return error_in(done.stderr) if done.returncode else json.loads(done.stdout.splitlines()[-1])


def run_rounds(
    contenders: Sequence[Hashable],
    rounds: int,
    measure: Callable[[Any], dict | str],
    title: Callable[[Any], str],
) -> dict[Any, list[dict]]:
    """Measure every contender once in each round; print why, if there is no result.

    Args:
        contenders: who is measured, in this order.
        rounds: processes per contender.
        measure: runs one contender's worker; returns what `run_worker` returns.
        title: names a contender and the case in messages.

    Returns:
        What the workers of each contender measured.
    """
    found: dict[Any, list[dict]] = {one: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            result = measure(one)
            if isinstance(result, str):
                say(f"{title(one)}: {result}")
            else:
                found[one].append(result)
    return found


def measure_cases(cases: Iterable[Any], rows_of: Callable[[Any], list[dict]], path: Path) -> None:
    """Measure cases one after the other, and write the table after each, because all take long.

    Args:
        cases: what to measure.
        rows_of: measures a case; returns its rows, none if its workers failed.
        path: file for the table.

    Raises:
        ValueError: if nothing was measured.
    """
    rows: list[dict] = []
    for case in cases:
        rows += rows_of(case)
        if rows:
            write_table(pd.DataFrame(rows), path)
    if not rows:
        raise ValueError("nothing was measured: every worker failed, or no case was given")


def steps_per_second(found: Mapping[Any, list[dict]]) -> dict[Any, float]:
    """Return each contender's median over all timed runs of its processes, if it has any."""
    return {
        one: float(np.median([r["env_steps"] / s for r in results for s in r["seconds"]]))
        for one, results in found.items()
        if results
    }


def columns_of(results: Sequence[dict]) -> dict[str, float]:
    """Return what a table says of a contender's processes besides its speed."""
    seconds = [s for r in results for s in r["seconds"]]
    return {
        "runs": len(seconds),
        "fastest_s": round(min(seconds), 3),
        "slowest_s": round(max(seconds), 3),
        "compile_s": round(float(np.median([r["compile_s"] for r in results])), 1),
        "peak_mb": round(max(r["peak_mb"] for r in results)),
    }


def fastest_rows(found: Mapping[tuple[str, str], list[dict]], unit: str) -> list[dict]:
    """Make a row per contender: medians over the processes of its faster arrangement.

    Args:
        found: what the workers measured, by contender and arrangement.
        unit: the column of speeds.
    """
    speed = steps_per_second(found)
    best = {c: max((w for w in speed if w[0] == c), key=speed.get) for c, _ in speed}
    ours = speed[best["ours"]] if "ours" in best else np.nan
    return [
        {
            "contender": contender,
            "arrangement": who[1],
            unit: round(speed[who]),
            "ours_over_it": round(ours / speed[who], 2),
            **columns_of(found[who]),
        }
        for contender, who in best.items()
    ]


def without_cache(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment variables and more, with JAX's compilation cache off."""
    return os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"} | dict(environment or {})


def error_in(stderr: str) -> str:
    """Find the error in what a failed process wrote: its last line that names an exception."""
    lines = stderr.strip().splitlines() or ["failed without a message"]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)", line)]
    return (errors or lines)[-1]


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, and print it with one line per row, however narrow the terminal.

    Raises:
        ValueError: if the table has no rows.
    """
    if frame.empty:
        raise ValueError("nothing was measured: every worker failed, or no case was given")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    say(frame.to_string(index=False))
    say(f"written to {path}")
