"""What GROOVE costs beside LPG: seconds per meta-step, and what the level buffer takes of it.

Every case runs in a process of its own, several rounds interleaved. `buffer` is what a meta-step
does with its buffer, alone: chances of all levels, a draw, and the report of a life that ended.

python experiments/bench/groove_meta_step.py    # the published settings; capacities 4,000, 100,000
"""

from dataclasses import dataclass

import pandas as pd
import tyro
from lpg_meta_step import Scale, measure, row
from processes import console


@dataclass(frozen=True)
class Settings(Scale):
    """What to measure."""

    capacities: tuple[int, ...] = (4000, 100_000)
    """Of the level buffer."""


def compare(settings: Settings) -> pd.DataFrame:
    """A meta-step of LPG, and of GROOVE with its buffer alone at every capacity."""
    cases: list[tuple] = [("step",)]
    for capacity in settings.capacities:
        cases += [("groove", capacity), ("buffer", capacity)]
    found: dict[tuple, list] = {case: [] for case in cases}
    for _ in range(settings.rounds):
        for kind, *capacity in cases:
            result = measure(kind, settings, *capacity)
            if result:
                found[kind, *capacity].append(result)
    rows = [
        row(case[0], results) | {"capacity": case[1] if case[1:] else 0}
        for case, results in found.items()
        if results
    ]
    frame = pd.DataFrame(rows).replace({"case": {"step": "LPG", "groove": "GROOVE"}})
    lpg = frame.loc[frame["case"] == "LPG", "meta_step_s"].iloc[0]
    return frame.assign(over_lpg=(frame["meta_step_s"] / lpg).round(4))


def main(settings: Settings) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    frame = compare(settings)
    path = settings.out / "groove_meta_step.csv"
    frame.to_csv(path, index=False)
    console.print(frame.to_string(index=False))
    console.print(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
