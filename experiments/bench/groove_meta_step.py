"""Measure what GROOVE costs beside LPG: seconds per meta-step, and the level buffer's share.

Every case runs in a process of its own, and every round runs each case once. `buffer` is the work
that a meta-step does with its buffer, alone: it computes the probabilities of all levels, draws one
per agent, and reports one life that ended.

python experiments/bench/groove_meta_step.py    # the published settings; capacities 4,000, 100,000
"""

from dataclasses import dataclass

import pandas as pd
from meta_steps import Scale, measure, row
from processes import run_rounds, write_table

from purejaxrl.launch import command
from purejaxrl.validation import require


@dataclass(frozen=True)
class Settings(Scale):
    """What to measure."""

    capacities: tuple[int, ...] = (4000, 100_000)
    """Numbers of levels that the buffer holds."""

    def __post_init__(self):
        super().__post_init__()
        least = self.num_agents
        valid = bool(self.capacities) and min(self.capacities) >= least
        require(valid, self, "capacities", f"one or more integers >= num_agents = {least}")


def compare(settings: Settings) -> pd.DataFrame:
    """Measure LPG, then GROOVE and its buffer at every capacity; one row each."""
    cases: list[tuple] = [("step",)]
    for capacity in settings.capacities:
        cases += [("groove", capacity), ("buffer", capacity)]
    found = run_rounds(
        cases, settings.rounds,
        lambda case: measure(settings, *case),
        lambda case: " ".join(map(str, case)),
    )  # fmt: skip
    names = {"step": "LPG", "groove": "GROOVE", "buffer": "buffer"}
    rows = [
        row(names[kind], results, capacity=capacity[0] if capacity else 0)
        for (kind, *capacity), results in found.items()
        if results
    ]
    lpg = next((r["meta_step_s"] for r in rows if r["case"] == "LPG"), float("nan"))
    return pd.DataFrame([r | {"over_lpg": round(r["meta_step_s"] / lpg, 4)} for r in rows])


def main(settings: Settings) -> None:
    write_table(compare(settings), settings.out / "groove_meta_step.csv")


if __name__ == "__main__":
    command(main, Settings)
