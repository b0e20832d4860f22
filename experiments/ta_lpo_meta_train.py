"""TA-LPO: evolve a clip that changes over the life of an agent (Jackson et al. 2024).

python experiments/ta_lpo_meta_train.py                        # CartPole; two cores
python experiments/ta_lpo_meta_train.py --env Catch-bsuite

The drifts are written to OUT/drift-SEED.npz.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import asdict, dataclass

import lpo_meta_train

from algos import ta_lpo
from purejaxrl.launch import RunFlags, launch
from purejaxrl.running.runner import RunOptions


@dataclass(frozen=True)
class Settings(lpo_meta_train.Settings):
    """Settings of TA-LPO's evolution."""

    agent: ta_lpo.Config = ta_lpo.Config(**asdict(lpo_meta_train.Settings.agent))
    """Static settings of the agents and of the drift: those of LPO."""
    run: RunFlags = RunOptions(out="results/ta_lpo_meta_train", chunk=4)

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"TA-LPO evolved on {self.env}"


build = lpo_meta_train.build


if __name__ == "__main__":
    launch(Settings, build, save=lpo_meta_train.write)
