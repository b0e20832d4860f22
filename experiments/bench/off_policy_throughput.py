"""Measure DQN, PQN and SAC beside their peers: environment steps per second, without compile time.

Every contender runs in a process of its own, one at a time, with the same hyperparameters. Every
round runs each contender once, so that a drift of the machine's speed affects all alike. rejax's
DQN is double and PureJaxRL's is not, so ours is measured as both, `dqn` and `dqn_single`. Peers run
with all members at a time, and with one after the other; their faster arrangement counts. They run
in a virtual environment that is made for them, as they need an older gymnax. PureJaxRL and
purejaxql are measured if a checkout of them is named. The last cases are the insertion into a
replay buffer and a draw from it, flashbax's too, in draws per second.

python experiments/bench/off_policy_throughput.py --purejaxrl PATH --purejaxql PATH
python experiments/bench/off_policy_throughput.py --cases dqn:16 draw:1000000 --rounds 1
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from processes import (
    WORKERS,
    fastest_rows,
    measure_cases,
    peer_python,
    run_rounds,
    run_worker,
)

from purejaxrl.launch import command
from purejaxrl.validation import require, require_count

PEER_PACKAGES = (
    "rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2", "flax==0.12.8", "distrax==0.1.9",
    "flashbax==0.1.3",
)  # fmt: skip
CONTENDERS = {
    "dqn": ("ours", "rejax"),
    "dqn_single": ("ours", "purejaxrl"),
    "pqn": ("ours", "rejax", "purejaxql"),
    "sac": ("ours", "rejax"),
    "draw": ("ours", "flashbax", "rejax"),
}
SCRIPTS = {
    "ours": "off_policy_ours.py",
    "rejax": "off_policy_rejax.py",
    "purejaxrl": "purejaxrl_dqn.py",
    "purejaxql": "purejaxql_pqn.py",
}
UPDATES = {"dqn": 6_400, "dqn_single": 6_400, "pqn": 16, "sac": 1_000}
"""Updates of all members together, in one timed run."""
DRAW_MEMBERS = 8


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    cases: tuple[str, ...] = (
        "dqn:16", "dqn:1", "dqn_single:16", "dqn_single:1", "pqn:16", "pqn:1", "sac:4", "sac:1",
        "draw:10000", "draw:1000000",
    )  # fmt: skip
    """An algorithm and the number of its members, or `draw` and the capacity of the buffer."""
    rounds: int = 2
    """Processes per contender and arrangement; every round runs each once."""
    repeats: int = 3
    """Timed runs in each process, after one run to warm up."""
    time_limit: float = 900.0
    """Seconds after which a process is stopped."""
    purejaxrl: Path | None = None
    """Checkout of PureJaxRL; without one, it is not measured."""
    purejaxql: Path | None = None
    """Checkout of purejaxql; without one, it is not measured."""
    out: Path = Path("results/bench/off_policy_throughput.csv")
    """File for the table."""

    def __post_init__(self):
        require_count(self, "rounds", "repeats")
        for case in self.cases:
            what, _, number = case.partition(":")
            valid = what in CONTENDERS and number.isdecimal() and int(number) > 0
            known = ", ".join(f"{name}:N" for name in CONTENDERS)
            require(valid, self, "cases", f"some of {known}, with N an integer >= 1")
        require(self.time_limit > 0, self, "time_limit", "a number of seconds > 0")
        for name, file in (("purejaxrl", "dqn.py"), ("purejaxql", "pqn_gymnax.py")):
            path = getattr(self, name)
            valid = path is None or (path / name / file).is_file()
            require(valid, self, name, f"a folder that holds {name}/{file}")


def arrangements(what: str, contender: str) -> tuple[str, ...]:
    """Return how a contender is run: our layout, or a peer's two."""
    return ("",) if what == "draw" or contender == "ours" else ("vmap", "map")


def measure(
    what: str, number: int, contender: str, arrangement: str, settings: Settings
) -> dict | str:
    """Run one worker; return what it measured, or the reason why there is nothing."""
    environment = {}
    python = sys.executable
    if contender != "ours":
        python = peer_python(Path(".cache/bench-peers-off-policy"), PEER_PACKAGES)
    if contender in ("purejaxrl", "purejaxql"):
        folder = getattr(settings, contender) / contender
        environment["PYTHONPATH"] = str(folder.absolute())
    if what == "draw":
        arguments = [WORKERS / "replay_draw.py", contender, number, DRAW_MEMBERS]
    else:
        updates = max(1, UPDATES[what] // number)
        arguments = [WORKERS / SCRIPTS[contender], what, number, updates]
    words = [python, *arguments, settings.repeats, *([arrangement] if arrangement else [])]
    return run_worker(words, settings.time_limit, environment)


def rows_of(case: str, settings: Settings) -> list[dict]:
    """Measure a case; return a row per contender."""
    what, _, number = case.partition(":")
    contenders = [c for c in CONTENDERS[what] if getattr(settings, c, True)]
    found = run_rounds(
        [(c, how) for c in contenders for how in arrangements(what, c)], settings.rounds,
        lambda one: measure(what, int(number), *one, settings),
        lambda one: f"{' '.join(one)}, {case}",
    )  # fmt: skip
    about = {"case": what, "capacity" if what == "draw" else "members": int(number)}
    return [about | row for row in fastest_rows(found, "steps_per_s")]


def main(settings: Settings) -> None:
    measure_cases(settings.cases, lambda case: rows_of(case, settings), settings.out)


if __name__ == "__main__":
    command(main, Settings)
