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
    """TA-LPO evolved on {env}."""

    agent: ta_lpo.Config = ta_lpo.Config(**asdict(lpo_meta_train.Settings.agent))
    """The agents' and the drift's static settings: those of LPO."""
    run: RunFlags = RunOptions(out="results/ta_lpo_meta_train", chunk=4)


if __name__ == "__main__":
    for outcome in launch(Settings, lpo_meta_train.build):
        lpo_meta_train.write(outcome)
