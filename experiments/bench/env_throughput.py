"""How fast environments step with random actions: steps per second on all cores after compiling.

Every contender runs in a process of its own, one after the other, in several rounds, so that a
machine whose speed drifts is unfair to none. Auto-reset and sampling the actions are included; each
environment of ours has a level of its own. The peers get a virtual environment.

python experiments/bench/env_throughput.py
python experiments/bench/env_throughput.py --sweep   # cost against grid size and number of objects
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tyro
from processes import console, peer_python, run_worker

WORKERS = Path(__file__).parent / "workers"
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
    """Environments side by side, over all cores."""
    num_steps: int = 1000
    """Steps in each, per timed run (a tenth of it for Brax, a hundredth for Craftax)."""
    rounds: int = 2
    """Processes per contender, interleaved."""
    repeats: int = 3
    """Timed runs in each process, after one to warm up."""
    peers: bool = True
    """Measure the peers, too."""
    sweep: bool = False
    """Instead, measure grid-worlds of several sizes and numbers of objects, and plot them."""
    out: Path = Path("results/bench")
    """Folder for the tables and the picture."""


def measure(worker: str, name: str, settings: Settings, *extra: str) -> dict | None:
    """Run one worker; returns what it measured, or says why there is nothing."""
    python = sys.executable
    if worker != "env":
        python = peer_python(Path(".cache/bench-env-peers"), PEER_PACKAGES)
    part = {"inverted_pendulum": 10, "Craftax-Classic-Symbolic-v1": 100}.get(name, 1)
    num_steps = settings.num_steps // part
    words = [python, WORKERS / f"{worker}_steps.py", name, settings.num_envs, num_steps]
    result = run_worker([*words, settings.repeats, *extra])
    if isinstance(result, str):
        console.print(f"{worker} {name}: {result}")
        return None
    return result


def compare(settings: Settings) -> pd.DataFrame:
    """Measure every environment; a row each, with its speed as a ratio to CartPole's."""
    cases = [("env", name, kind) for name, kind in OURS]
    cases += [(worker, name) for worker, name in PEERS] if settings.peers else []
    found = {case: [] for case in cases}
    for _ in range(settings.rounds):
        for case in cases:
            result = measure(case[0], case[1], settings, *case[2:])
            if result:
                found[case].append(result)
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
    frame = pd.DataFrame(rows)
    cartpole = frame.loc[frame["env"] == "CartPole-v1", "steps_per_s"]
    if len(cartpole):
        frame["over_cartpole"] = (frame["steps_per_s"] / cartpole.iloc[0]).round(2)
    return frame


def sweep(settings: Settings) -> pd.DataFrame:
    """Nanoseconds of a core per step against grid size and number of objects, also as a picture."""
    rows = []
    for size in (4, 6, 8, 10, 13):
        for objects in (1, 3, 5):
            words = f"size={size}", f"objects={objects}"
            result = measure("env", "gridworld-small", settings, "step", *words)
            if result:
                seconds = np.median(result["seconds"]) / result["env_steps"]
                cost = 1e9 * seconds * len(os.sched_getaffinity(0))
                rows.append({"size": size, "objects": objects, "ns_per_step": round(cost, 1)})
    frame = pd.DataFrame(rows)
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for objects, part in frame.groupby("objects"):
        axes.plot(part["size"], part["ns_per_step"], marker="o", label=f"{objects} objects")
    axes.set(xlabel="side of the grid", ylabel="ns of one core per step", ylim=(0, None))
    axes.legend()
    figure.savefig(settings.out / "env_cost.png", dpi=150)
    return frame


def main(settings: Settings) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    frame = sweep(settings) if settings.sweep else compare(settings)
    path = settings.out / ("env_cost.csv" if settings.sweep else "env_throughput.csv")
    frame.to_csv(path, index=False)
    console.print(frame.to_string(index=False))
    console.print(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
