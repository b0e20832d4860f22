"""Measure PPO's speed beside its peers': environment steps per second, without compile time.

Every contender runs in a process of its own, one at a time, with the same hyperparameters. Every
round runs each contender once, so that a drift of the machine's speed affects all alike. The peers
run in a virtual environment that is made for them, as they need an older gymnax. PureJaxRL is
measured if `--purejaxrl` names a checkout of it.

python experiments/bench/ppo_throughput.py --purejaxrl PATH
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from processes import (
    WORKERS,
    columns_of,
    measure_cases,
    peer_python,
    run_rounds,
    run_worker,
    steps_per_second,
)

from purejaxrl.launch import command
from purejaxrl.validation import require, require_count, require_known

PEER_PACKAGES = ("rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2", "flax==0.12.8", "distrax==0.1.9")
UPDATES = {1: 100, 16: 20, 64: 8}
"""Updates of a timed run on CartPole, by the number of members; 3 for others."""
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
    """What to measure; `ceiling` steps our environments with random actions and learns nothing."""
    rounds: int = 2
    """Processes per contender; every round runs each contender once."""
    repeats: int = 3
    """Timed runs in each process, after one run to warm up."""
    time_limit: float = 900.0
    """Seconds after which a process is stopped."""
    purejaxrl: Path | None = None
    """Checkout of PureJaxRL; without one, it is not measured."""
    out: Path = Path("results/bench/ppo_throughput.csv")
    """File for the table."""

    def __post_init__(self):
        require_count(self, "rounds", "repeats")
        for name in ("members", "breakout_members"):
            require(min(getattr(self, name), default=1) >= 1, self, name, "integers >= 1")
        for name in self.contenders:
            require_known("contender", name, SCRIPTS)
        require(self.time_limit > 0, self, "time_limit", "a number of seconds > 0")
        valid = self.purejaxrl is None or (self.purejaxrl / "purejaxrl" / "ppo.py").is_file()
        require(valid, self, "purejaxrl", "a folder that holds purejaxrl/ppo.py")


def updates_of(env: str, members: int) -> int:
    """Return how many updates a timed run makes."""
    return UPDATES.get(members, 3) if env == "CartPole-v1" else max(1, 16 // members)


def measure(contender: str, env: str, members: int, settings: Settings) -> dict | str:
    """Run one worker; return what it measured, or the reason why there is nothing."""
    arguments = [env, members, updates_of(env, members), settings.repeats]
    environment = {}
    if contender in ("ours", "ceiling"):
        python = sys.executable
    else:
        python = peer_python(Path(".cache/bench-peers"), PEER_PACKAGES)
    if contender == "purejaxrl":
        environment["PYTHONPATH"] = str((settings.purejaxrl / "purejaxrl").absolute())
    script = WORKERS / SCRIPTS[contender]
    return run_worker([python, script, *arguments], settings.time_limit, environment)


def summarize(env: str, members: int, found: dict[str, list[dict]]) -> list[dict]:
    """Make a row per contender of one population: medians over its processes.

    Args:
        env, members: the population.
        found: what the workers of each contender measured.
    """
    speeds = steps_per_second(found)
    return [
        {
            "env": env,
            "members": members,
            "contender": contender,
            "steps_per_s": round(speed),
            "ours_over_it": round(speeds.get("ours", np.nan) / speed, 2),
            **columns_of(found[contender]),
        }
        for contender, speed in speeds.items()
    ]


def rows_of(env: str, members: int, settings: Settings) -> list[dict]:
    """Measure a population; return a row per contender."""
    found = run_rounds(
        [c for c in settings.contenders if c != "purejaxrl" or settings.purejaxrl], settings.rounds,
        lambda who: measure(who, env, members, settings),
        lambda who: f"{who}, {env}, {members} members",
    )  # fmt: skip
    return summarize(env, members, found)


def main(settings: Settings) -> None:
    cases = [("CartPole-v1", m) for m in settings.members]
    cases += [("Breakout-MinAtar", m) for m in settings.breakout_members]
    measure_cases(cases, lambda case: rows_of(*case, settings), settings.out)


if __name__ == "__main__":
    command(main, Settings)
