"""PPO's speed beside its peers', in one run: environment steps per second, compile time apart.

Every contender runs in a process of its own with the same hyperparameters, one after the other, in
several rounds, so that a machine whose speed drifts is unfair to none. The peers get a virtual
environment with the older gymnax they need. PureJaxRL is measured if a checkout of it is given.

python experiments/bench/ppo_throughput.py --purejaxrl PATH
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from processes import console, peer_python, run_worker
from rich.table import Table

WORKERS = Path(__file__).parent / "workers"
PEER_PACKAGES = ("rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2", "flax==0.12.8", "distrax==0.1.9")
UPDATES = {1: 100, 16: 20, 64: 8, 256: 3, 1024: 3, 4096: 3}
SCRIPTS = {
    "ours": "ours.py",
    "ceiling": "ceiling.py",
    "rejax": "rejax_ppo.py",
    "purejaxrl": "purejaxrl_ppo.py",
}


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    members: tuple[int, ...] = (1, 16, 64, 256)
    """Population sizes on CartPole."""
    breakout_members: tuple[int, ...] = (64,)
    """Population sizes on Breakout-MinAtar."""
    contenders: tuple[str, ...] = ("ours", "rejax", "purejaxrl", "ceiling")
    """Whom to measure."""
    rounds: int = 2
    """Processes per contender, interleaved."""
    repeats: int = 3
    """Timed runs in each process, after one to warm up."""
    time_limit: float = 900.0
    """Seconds after which a process is given up."""
    purejaxrl: Path | None = None
    """Checkout of PureJaxRL, if it is to be measured."""
    out: Path = Path("results/bench/ppo_throughput.csv")
    """Where the table goes."""


def measure(contender: str, env: str, members: int, settings: Settings) -> dict | str:
    """Run one worker; returns what it measured, or why there is nothing."""
    updates = UPDATES.get(members, 3) if env == "CartPole-v1" else max(1, 16 // members)
    arguments = [env, members, updates, settings.repeats]
    environment = {}
    if contender in ("ours", "ceiling"):
        python = sys.executable
    else:
        python = peer_python(Path(".cache/bench-peers"), PEER_PACKAGES)
    if contender == "purejaxrl":
        environment["PYTHONPATH"] = str((settings.purejaxrl / "purejaxrl").absolute())
    script = WORKERS / SCRIPTS[contender]
    return run_worker([python, script, *arguments], settings.time_limit, environment)


def main(settings: Settings) -> None:
    contenders = [c for c in settings.contenders if c != "purejaxrl" or settings.purejaxrl]
    rows = []
    cases = [("CartPole-v1", m) for m in settings.members]
    cases += [("Breakout-MinAtar", m) for m in settings.breakout_members]
    for env, members in cases:
        found: dict[str, list[dict]] = {c: [] for c in contenders}
        for _ in range(settings.rounds):
            for contender in contenders:
                result = measure(contender, env, members, settings)
                if isinstance(result, str):
                    console.print(f"{contender}, {env}, {members} members: {result}", markup=False)
                else:
                    found[contender].append(result)
        speeds = {
            c: np.median([r["env_steps"] / s for r in results for s in r["seconds"]])
            for c, results in found.items()
            if results
        }
        for contender, speed in speeds.items():
            results = found[contender]
            seconds = [s for r in results for s in r["seconds"]]
            rows.append(
                {
                    "env": env,
                    "members": members,
                    "contender": contender,
                    "steps_per_s": round(speed),
                    "ours_over_it": round(speeds.get("ours", np.nan) / speed, 2),
                    "runs": len(seconds),
                    "fastest_s": round(min(seconds), 3),
                    "slowest_s": round(max(seconds), 3),
                    "compile_s": round(float(np.median([r["compile_s"] for r in results])), 1),
                    "peak_mb": round(max(r["peak_mb"] for r in results)),
                }
            )
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(settings.out, index=False)
        console.print(f"{env}, {members} members: " + str({k: round(v) for k, v in speeds.items()}))
    if rows:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*map(str, row.values()))
        console.print(table)
        console.print(f"written to {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
