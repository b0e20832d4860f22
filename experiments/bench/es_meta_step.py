"""What a generation of evolution costs: environment steps per second that train an agent.

Those of masked updates do not count, and neither does evaluation. TA-LPG on `all_shortlife`, lives
of 10 to 250 updates; the published code's figures are for 2 pairs × 16 environments.

python experiments/bench/es_meta_step.py
python experiments/bench/es_meta_step.py --pairs 2 16 64 --rule-width 256
"""

from dataclasses import dataclass

import pandas as pd
import tyro
from lpg_meta_step import Scale, measure, row
from processes import console


@dataclass(frozen=True)
class Settings(Scale):
    """What to measure; the number of agents and K are not read."""

    num_envs: int = 16
    pairs: tuple[int, ...] = (2, 16)
    """Antithetic pairs of candidates."""


def main(settings: Settings) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    found: dict[int, list] = {pairs: [] for pairs in settings.pairs}
    for _ in range(settings.rounds):
        for pairs, results in found.items():
            result = measure("evolution", settings, num_agents=2 * pairs)
            if result:
                results.append(result)
    rows = [row("TA-LPG", results, pairs=pairs) for pairs, results in found.items() if results]
    frame = pd.DataFrame(rows).rename(columns={"meta_step_s": "generation_s"})
    path = settings.out / "es_meta_step.csv"
    frame.to_csv(path, index=False)
    console.print(frame.to_string(index=False))
    console.print(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
