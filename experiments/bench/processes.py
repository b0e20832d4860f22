"""Contenders in processes of their own, the peers in virtual environments of theirs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console(stderr=True)


def peer_python(folder: Path, packages: Sequence[str]) -> Path:
    """Make a virtual environment with the peers' packages, once; returns its Python."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        console.print("making a virtual environment for the peers …")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        (folder / "ready").touch()
    return python.absolute()


def run_worker(
    command: Sequence[Any],
    time_limit: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict | str:
    """Run a worker without a compilation cache.

    Args:
        command: its words.
        time_limit: seconds after which it is given up.
        environment: variables to add.

    Returns:
        What it measured, the JSON on its last line, or why there is nothing.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"} | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        return f"no result in {time_limit:g} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        return next(
            (x for x in reversed(lines) if re.match(r"[\w.]+(Error|Exception)", x)), lines[-1]
        )
    return json.loads(done.stdout.splitlines()[-1])
