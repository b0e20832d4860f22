"""Measure how fast environments step with random actions: steps per second on all cores.

Every contender runs in a process of its own, one at a time. Every round runs each contender once,
so that a drift of the machine's speed affects all alike. Auto-reset and sampling the actions are
included, compilation is not. Each of our environments has its own level. The peers run in a virtual
environment that is made for them.

python experiments/bench/env_throughput.py
python experiments/bench/env_throughput.py --sweep   # cost over grid size and number of objects
"""

import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
from processes import WORKERS, peer_python, run_rounds, run_worker, write_table

from purejaxrl.launch import command
from purejaxrl.validation import require_count

PEER_PACKAGES = ("xminigrid==0.9.3", "navix==0.7.4", "craftax==1.6.1", "jax==0.10.2")
OURS = (
    ("CartPole-v1", "step"),
    ("gridworld-small", "step"),
    ("gridworld-all", "step"),
    ("gridworld-all", "step_env"),
    ("gridworld-rand_all", "step"),
    ("maze-60", "step"),
    ("chain-long", "step"),
    ("inverted_pendulum", "step"),
    ("inverted_pendulum", "step_env"),
)
PEERS = (
    ("xminigrid", "MiniGrid-FourRooms"),
    ("navix", "Navix-FourRooms-v0"),
    ("craftax", "Craftax-Classic-Symbolic-v1"),
)


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    num_envs: int = 1024
    """Environments that step at the same time, divided among the cores."""
    num_steps: int = 1000
    """Steps of each environment in a timed run; a tenth for Brax, a hundredth for Craftax."""
    rounds: int = 2
    """Processes per contender; every round runs each contender once."""
    repeats: int = 3
    """Timed runs in each process, after one run to warm up."""
    peers: bool = True
    """Also measure the peers."""
    sweep: bool = False
    """Instead, measure grid-worlds over size and number of objects, and plot the cost."""
    out: Path = Path("results/bench")
    """Folder for the tables and the picture."""

    def __post_init__(self):
        require_count(self, "num_envs", "num_steps", "rounds", "repeats")


def measure(settings: Settings, worker: str, name: str, *extra: str) -> dict | str:
    """Run one worker; return what `run_worker` returns."""
    python = sys.executable
    if worker != "env":
        python = peer_python(Path(".cache/bench-env-peers"), PEER_PACKAGES)
    part = {"inverted_pendulum": 10, "Craftax-Classic-Symbolic-v1": 100}.get(name, 1)
    num_steps = max(1, settings.num_steps // part)
    words = [python, WORKERS / f"{worker}_steps.py", name, settings.num_envs, num_steps]
    return run_worker([*words, settings.repeats, *extra])


def compare(settings: Settings) -> pd.DataFrame:
    """Measure every environment; one row each, with its speed as a ratio to CartPole's."""
    cases = [("env", name, kind) for name, kind in OURS]
    cases += [(worker, name) for worker, name in PEERS] if settings.peers else []
    found = run_rounds(
        cases, settings.rounds,
        lambda case: measure(settings, *case),
        lambda case: " ".join(case[:2]),
    )  # fmt: skip
    rows = []
    for (worker, name, *kind), results in found.items():
        if results:
            speeds = [r["env_steps"] / s for r in results for s in r["seconds"]]
            rows.append(
                {
                    "contender": "ours" if worker == "env" else worker,
                    "env": name,
                    "stepped_with": kind[0] if kind else "step",
                    "steps_per_s": round(np.median(speeds)),
                    "slowest": round(min(speeds)),
                    "fastest": round(max(speeds)),
                    "runs": len(speeds),
                    "compile_s": round(float(np.median([r["compile_s"] for r in results])), 1),
                }
            )
    speed = next((r["steps_per_s"] for r in rows if r["env"] == "CartPole-v1"), np.nan)
    return pd.DataFrame([r | {"over_cartpole": round(r["steps_per_s"] / speed, 2)} for r in rows])


def sweep(settings: Settings) -> pd.DataFrame:
    """Measure a step's cost, in nanoseconds of one core, over grid size and number of objects."""
    case = ("env", "gridworld-small")
    found = run_rounds(
        list(itertools.product((4, 6, 8, 10, 13), (1, 3, 5))), 1,
        lambda grid: measure(settings, *case, "step", f"size={grid[0]}", f"objects={grid[1]}"),
        lambda _: " ".join(case),
    )  # fmt: skip
    rows = []
    for (size, objects), results in found.items():
        for result in results:
            seconds = np.median(result["seconds"]) / result["env_steps"]
            cost = 1e9 * seconds * len(os.sched_getaffinity(0))
            rows.append({"size": size, "objects": objects, "ns_per_step": round(cost, 1)})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Plot a sweep: a line per number of objects."""
    figure = matplotlib.figure.Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for objects, part in frame.groupby("objects"):
        axes.plot(part["size"], part["ns_per_step"], marker="o", label=f"{objects} objects")
    axes.set(xlabel="side of the grid", ylabel="ns of one core per step", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=150)


def main(settings: Settings) -> None:
    if settings.sweep:
        frame = sweep(settings)
        write_table(frame, settings.out / "env_cost.csv")
        draw(frame, settings.out / "env_cost.png")
    else:
        write_table(compare(settings), settings.out / "env_throughput.csv")


if __name__ == "__main__":
    command(main, Settings)
