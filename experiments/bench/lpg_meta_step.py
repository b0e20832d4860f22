"""Measure what a meta-step of LPG costs: seconds, compile time, and peak memory.

Every case runs in a process of its own, and every round runs each case once.

- `meta-step`: with default settings.
- `rematerialised`: recomputes updates in the backward pass, to save memory.
- `lean`: compiled without XLA's fusion emitters. Compiling with them needs more memory than the
  meta-step itself.
- `arithmetic`: only the matrix products of the rule's recurrent network, forward and backward, on
  the same shapes and the same number of cores: a lower bound.
- `published, n mini-batches`: the published code, if `--groove` names a checkout of it and
  `--groove-python` an interpreter that has its packages. At its best number of mini-batches it is
  what ours is compared with.

`peak_mb` is the process's peak memory, the compiler's included. `program_mb` is the memory that XLA
plans for intermediate results.

python experiments/bench/lpg_meta_step.py            # the published settings
python experiments/bench/lpg_meta_step.py --groove PATH --groove-python VENV/bin/python
python experiments/bench/lpg_meta_step.py --sweep    # agents 8 … 512, and K 1 … 20
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.figure
import pandas as pd
from meta_steps import Scale, measure, measure_published, row
from processes import run_rounds, write_table

from purejaxrl.launch import command
from purejaxrl.validation import require

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
    groove: Path | None = None
    """Checkout of the published code, GROOVE; without one, it is not measured."""
    groove_python: Path | None = None
    """Python interpreter with the packages that the published code needs."""
    mini_batches: tuple[int, ...] = (16, 8)
    """Mini-batches of agents in the published code, each a case of its own."""

    def __post_init__(self):
        super().__post_init__()
        checkout, python = self.groove, self.groove_python
        valid = checkout is None or (checkout / "meta" / "train.py").is_file()
        require(valid, self, "groove", "a folder that holds meta/train.py")
        valid = checkout is None or (python is not None and python.is_file())
        require(valid, self, "groove_python", "a Python interpreter, if groove is given")
        for count in self.mini_batches:
            valid = count >= 1 and self.num_agents % count == 0
            require(valid, self, "mini_batches", "integers that divide num_agents")


def compare(settings: Settings) -> pd.DataFrame:
    """Measure every case; one row each, its time also over the arithmetic's and over ours."""
    cases = {name: partial(measure, settings, kind) for name, kind in CASES.items()}
    for count in settings.mini_batches if settings.groove else ():
        cases[f"published, {count} mini-batches"] = partial(
            measure_published, settings.groove, settings.groove_python, settings, count
        )
    found = run_rounds(
        list(cases), settings.rounds,
        lambda name: cases[name](),
        lambda name: CASES.get(name, name),
    )  # fmt: skip
    rows = [row(name, results) for name, results in found.items() if results]
    seconds = {r["case"]: r["meta_step_s"] for r in rows}
    over = lambda r, case: round(r["meta_step_s"] / seconds.get(case, float("nan")), 2)  # noqa: E731
    ratios = {"over_arithmetic": "arithmetic", "over_ours": "meta-step"}
    return pd.DataFrame([r | {name: over(r, case) for name, case in ratios.items()} for r in rows])


def sweep(settings: Settings) -> pd.DataFrame:
    """Measure time and memory over the number of agents and over K."""
    cases = [("step", "num_agents", n) for n in (8, 16, 32, 64, 128, 256, 512)]
    cases += [(kind, "num_updates", k) for kind in ("step", "remat") for k in (1, 2, 5, 10, 20)]
    found = run_rounds(
        cases, 1,
        lambda case: measure(settings, case[0], rule_width=64, num_envs=16, **{case[1]: case[2]}),
        lambda case: "{} rule_width=64 num_envs=16 {}={}".format(*case),
    )  # fmt: skip
    return pd.DataFrame([
        row(kind, results, swept=name, value=value)
        for (kind, name, value), results in found.items()
        if results
    ])  # fmt: skip


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
