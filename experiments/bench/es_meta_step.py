"""Measure what a generation of evolution costs, in environment steps per second.

Only steps that train an agent count: not those of masked updates, and not those of evaluation.
The case is TA-LPG on `all_shortlife`, with lives of 10 to 250 updates. The published code's figures
are for 2 pairs × 16 environments.

python experiments/bench/es_meta_step.py
python experiments/bench/es_meta_step.py --pairs 2 16 64 --rule-width 256
"""

from dataclasses import dataclass

import pandas as pd
from meta_steps import Scale, measure, row
from processes import run_rounds, write_table

from purejaxrl.launch import command
from purejaxrl.validation import require


@dataclass(frozen=True)
class Settings(Scale):
    """What to measure; `num_agents` and `num_updates` have no effect."""

    num_envs: int = 16
    pairs: tuple[int, ...] = (2, 16)
    """Antithetic pairs of candidates."""

    def __post_init__(self):
        super().__post_init__()
        valid = bool(self.pairs) and min(self.pairs) >= 1
        require(valid, self, "pairs", "one or more integers >= 1")


def main(settings: Settings) -> None:
    found = run_rounds(
        settings.pairs, settings.rounds,
        lambda pairs: measure(settings, "evolution", num_agents=2 * pairs),
        lambda pairs: f"evolution num_agents={2 * pairs}",
    )  # fmt: skip
    rows = [row("TA-LPG", results, pairs=pairs) for pairs, results in found.items() if results]
    frame = pd.DataFrame(rows).rename(columns={"meta_step_s": "generation_s"})
    write_table(frame, settings.out / "es_meta_step.csv")


if __name__ == "__main__":
    command(main, Settings)
