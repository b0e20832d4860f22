"""Measure what a meta-step of LPG costs: seconds, compile time, and peak memory.

Every case runs in a process of its own, and every round runs each case once.

- `meta-step`: with default settings.
- `rematerialised`: recomputes updates in the backward pass, to save memory.
- `lean`: compiled without XLA's fusion emitters. Compiling with them needs more memory than the
  meta-step itself.
- `arithmetic`: only the matrix products of the rule's recurrent network, forward and backward, on
  the same shapes and the same number of cores: a lower bound.

`peak_mb` is the process's peak memory, the compiler's included. `program_mb` is the memory that XLA
plans for intermediate results.

python experiments/bench/lpg_meta_step.py            # the published settings
python experiments/bench/lpg_meta_step.py --sweep    # agents 8 … 512, and K 1 … 20
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import pandas as pd
from meta_steps import Scale, measure, row
from processes import write_table

from purejaxrl.launch import command

CASES = {
    "meta-step": "step",
    "rematerialised": "remat",
    "lean": "lean",
    "arithmetic": "arithmetic",
}


@dataclass(frozen=True)
class Settings(Scale):
    """What to measure."""

    sweep: bool = False
    """Instead, measure a range of agents and of K, and plot the results."""


def compare(settings: Settings) -> pd.DataFrame:
    """Measure every case; one row each, with its time as a ratio to the arithmetic's."""
    found: dict[str, list] = {name: [] for name in CASES}
    for _ in range(settings.rounds):
        for name, kind in CASES.items():
            result = measure(kind, settings)
            if result:
                found[name].append(result)
    rows = [row(name, results) for name, results in found.items() if results]
    least = next((r["meta_step_s"] for r in rows if r["case"] == "arithmetic"), float("nan"))
    return pd.DataFrame([r | {"over_arithmetic": round(r["meta_step_s"] / least, 2)} for r in rows])


def sweep(settings: Settings) -> pd.DataFrame:
    """Measure time and memory over the number of agents and over K."""
    cases = [("step", "num_agents", n) for n in (8, 16, 32, 64, 128, 256, 512)]
    cases += [(kind, "num_updates", k) for kind in ("step", "remat") for k in (1, 2, 5, 10, 20)]
    rows = []
    for kind, name, value in cases:
        small = {"rule_width": 64, "num_envs": 16}
        result = measure(kind, settings, **small, **{name: value})
        if result:
            rows.append(row(kind, [result], swept=name, value=value))
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Plot a sweep: time above, memory below; agents on the left, K on the right."""
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
    if settings.sweep:
        frame = sweep(settings)
        write_table(frame, settings.out / "lpg_meta_step_sweep.csv")
        draw(frame, settings.out / "lpg_meta_step.png")
    else:
        write_table(compare(settings), settings.out / "lpg_meta_step.csv")


if __name__ == "__main__":
    command(main, Settings)
