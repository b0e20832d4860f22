"""Comparisons: many runs in one folder, each kept where its identity says."""

import hashlib
from pathlib import Path
from typing import Any

from purejaxrl.algorithm import Algorithm
from purejaxrl.running import record
from purejaxrl.running.population import Population
from purejaxrl.running.runner import Result, RunOptions, run


def train(
    algorithm: Algorithm, population: Population, num_updates: int, out: Path, settings: Any = None
) -> Result:
    """Train a contender, or continue the same run where it was stopped.

    Args:
        algorithm, population, num_updates, settings: as of `run`.
        out: the folder's beginning. The run is in `OUT-DIGEST`, whose 12 hexadecimal digits stand
            for the algorithm, the members with their hyperparameters and levels, and the number of
            updates. So a comparison never reads the scores of another contender.

    Raises:
        ValueError, CheckpointError, Stopped: as `run`.
    """
    identity = f"{record.digest(algorithm, population)} {num_updates}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    options = RunOptions(str(out.with_name(f"{out.name}-{digest}")), resume=True)
    return run(algorithm, population, num_updates, options, settings=settings)
