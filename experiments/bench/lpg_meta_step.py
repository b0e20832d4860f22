"""What a meta-step of LPG costs: seconds, compile time, peak memory, and how far from arithmetic.

Every case runs in a process of its own, several rounds interleaved. `lean` is the same meta-step
compiled without XLA's fusion emitters, whose compilation needs more memory than it. `arithmetic` is
the rule's recurrent products alone on the same shapes, forward and backward, on as many cores.
`peak_mb` is the process's, the compiler's memory included; `program_mb` what XLA plans for the
meta-steps' intermediate results.

python experiments/bench/lpg_meta_step.py            # the published settings
python experiments/bench/lpg_meta_step.py --sweep    # agents 8 … 512, and K 1 … 20
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import tyro
from processes import console, run_worker

NO_FUSION_EMITTERS = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
WORKER = Path(__file__).parent / "workers" / "meta_step.py"


@dataclass(frozen=True)
class Scale:
    """How large, and how often to measure."""

    num_agents: int = 16
    num_envs: int = 64
    num_steps: int = 20
    num_updates: int = 5
    """K."""
    rule_width: int = 256
    rounds: int = 2
    """Processes per case, interleaved."""
    repeats: int = 3
    """Timed runs of four meta-steps in each process, after one to warm up."""
    out: Path = Path("results/bench")
    """Folder for the tables and the picture."""


@dataclass(frozen=True)
class Settings(Scale):
    """What to measure."""

    sweep: bool = False
    """Instead, measure a range of agents and of K, and plot them."""


def measure(kind: str, settings: Scale, *more: int, **changes: int) -> dict | None:
    """Run one worker; returns what it measured, or says why there is nothing."""
    names = ("num_agents", "num_envs", "num_steps", "num_updates", "rule_width", "repeats")
    values = [changes.get(name, getattr(settings, name)) for name in names]
    lean = kind == "lean"
    command = [sys.executable, WORKER, "step" if lean else kind, *values, *more]
    result = run_worker(command, environment=NO_FUSION_EMITTERS if lean else None)
    if isinstance(result, str):
        console.print(f"{kind} {changes}: {result}")
        return None
    return result


def row(name: str, results: list[dict], **about: int) -> dict:
    """Medians over processes."""
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


def compare(settings: Settings) -> pd.DataFrame:
    """A meta-step, two ways to save memory, and its arithmetic."""
    cases = {
        "meta-step": "step",
        "rematerialised": "remat",
        "lean": "lean",
        "arithmetic": "arithmetic",
    }
    found: dict[str, list] = {name: [] for name in cases}
    for _ in range(settings.rounds):
        for name, kind in cases.items():
            result = measure(kind, settings)
            if result:
                found[name].append(result)
    frame = pd.DataFrame(row(name, results) for name, results in found.items() if results)
    arithmetic = frame.loc[frame["case"] == "arithmetic", "meta_step_s"].iloc[0]
    return frame.assign(over_arithmetic=(frame["meta_step_s"] / arithmetic).round(2))


def sweep(settings: Settings) -> pd.DataFrame:
    """Seconds and memory against the number of agents and K, also as a picture."""
    cases = [("step", "num_agents", n) for n in (8, 16, 32, 64, 128, 256, 512)]
    cases += [(kind, "num_updates", k) for kind in ("step", "remat") for k in (1, 2, 5, 10, 20)]
    rows = []
    for kind, name, value in cases:
        small = {"rule_width": 64, "num_envs": 16}
        result = measure(kind, settings, **small, **{name: value})
        if result:
            rows.append(row(kind, [result], swept=name, value=value))
    frame = pd.DataFrame(rows)
    draw(frame, settings.out / "lpg_meta_step.png")
    return frame


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw what was swept."""
    figure = matplotlib.figure.Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col")
    names = {"step": "meta-step", "remat": "rematerialised"}
    for column, swept in enumerate(("num_agents", "num_updates")):
        for kind, name in names.items():
            part = frame[(frame["swept"] == swept) & (frame["case"] == kind)]
            style = {"marker": "o", "label": name, "color": f"C{list(names).index(kind)}"}
            axes[0, column].plot(part["value"], part["meta_step_s"], **style)
            axes[1, column].plot(part["value"], part["program_mb"], **style)
        axes[1, column].set_xlabel({"num_agents": "agents", "num_updates": "K"}[swept])
    axes[0, 0].set(ylabel="seconds per meta-step", xscale="log", yscale="log")
    axes[1, 0].set(ylabel="memory of intermediate results, MB", yscale="log")
    axes[0, 1].legend()
    figure.savefig(path, dpi=150)


def main(settings: Settings) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    frame = sweep(settings) if settings.sweep else compare(settings)
    path = settings.out / ("lpg_meta_step_sweep.csv" if settings.sweep else "lpg_meta_step.csv")
    frame.to_csv(path, index=False)
    console.print(frame.to_string(index=False))
    console.print(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
