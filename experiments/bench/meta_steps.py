"""What the benches of meta-learners share: their scale, one measurement, and one row of a table."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from processes import WORKERS, run_worker

from purejaxrl.validation import require_count

NO_FUSION_EMITTERS = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
SIZES = ("num_agents", "num_envs", "num_steps", "num_updates", "rule_width", "repeats")


@dataclass(frozen=True)
class Scale:
    """How large the learner is, and how often it is measured."""

    num_agents: int = 16
    num_envs: int = 64
    num_steps: int = 20
    num_updates: int = 5
    """K, the updates of an agent in a meta-step."""
    rule_width: int = 256
    rounds: int = 2
    """Processes per case; every round runs each case once."""
    repeats: int = 3
    """Timed runs of four meta-steps in each process, after one run to warm up."""
    out: Path = Path("results/bench")
    """Folder for the tables and the picture."""

    def __post_init__(self):
        require_count(self, *SIZES, "rounds")


def measure(settings: Scale, kind: str, *more: int, **changes: int) -> dict | str:
    """Run one worker; return what `run_worker` returns.

    Args:
        settings: the scale.
        kind: what to measure, as `workers/meta_step.py` names it; `lean` is `step` compiled
            without XLA's fusion emitters.
        more: further arguments of the worker.
        changes: sizes that replace the settings'.
    """
    values = [changes.get(name, getattr(settings, name)) for name in SIZES]
    lean = kind == "lean"
    command = [sys.executable, WORKERS / "meta_step.py", "step" if lean else kind, *values, *more]
    return run_worker(command, environment=NO_FUSION_EMITTERS if lean else None)


def measure_published(
    checkout: Path, python: Path, settings: Scale, mini_batches: int
) -> dict | str:
    """Run the worker that times the published code; return what `run_worker` returns.

    Args:
        checkout: a checkout of the published code.
        python: an interpreter that has its packages.
        settings: the scale.
        mini_batches: how many parts its agents are divided into.
    """
    values = [getattr(settings, name) for name in SIZES]
    command = [python.absolute(), WORKERS / "groove_meta_step.py", *values, mini_batches]
    return run_worker(command, environment={"PYTHONPATH": str(checkout.absolute())})


def row(name: str, results: list[dict], **about: int) -> dict:
    """Summarise the processes of one case: medians of times, the largest peak of memory."""
    seconds = np.concatenate([r["seconds"] for r in results])
    env_steps = np.concatenate([r["env_steps"] for r in results])
    return {
        "case": name,
        **about,
        "meta_step_s": round(np.median(seconds), 5),
        "fastest_s": round(min(seconds), 3),
        "slowest_s": round(max(seconds), 3),
        "env_steps_per_s": round(np.median(env_steps / seconds)),
        "compile_s": round(float(np.median([r["compile_s"] for r in results])), 1),
        "peak_mb": round(max(r["peak_mb"] for r in results)),
        "program_mb": round(results[0]["program_mb"], 1),
        "idle_mb": round(results[0]["idle_mb"]),
        "runs": len(seconds),
    }
