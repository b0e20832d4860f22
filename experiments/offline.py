r"""Offline learning: behaviour cloning, TD3+BC, IQL or ReBRAC on a dataset.

python experiments/collect_dataset.py
python experiments/offline.py --algorithm iql --dataset results/datasets/Pendulum-v1/medium.npz
python experiments/offline.py --algorithm bc,td3_bc,iql,rebrac --seeds 5 \
    --dataset results/datasets/Pendulum-v1/medium.npz,results/datasets/Pendulum-v1/expert.npz
python experiments/offline.py --algorithm td3_bc --hypers.alpha 0,1,2.5,4
python experiments/offline.py --algorithm iql --weights by_return

Policies are evaluated in the environment that the dataset comes from. OUT/scores.csv has returns
that are normalised: 0 for random actions, 100 for the expert of the dataset's card.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import envs
from algos import iql
from algos.offline import ALGORITHMS
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch
from purejaxrl.offline.files import load_card, load_dataset
from purejaxrl.parts.dataset import Dataset, weigh_by_advantage, weigh_by_return
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.normalized import save_scores
from purejaxrl.validation import require, require_count, require_known

WEIGHTS: Mapping[str, Callable[[Dataset], Dataset]] = {
    "alike": lambda dataset: dataset,
    "by_return": weigh_by_return,
    "by_advantage": weigh_by_advantage,
}


@dataclass(frozen=True)
class Settings(Experiment):
    """What to learn, and from what."""

    algorithm: str = "iql"
    """Algorithm: bc, td3_bc, iql or rebrac; the other defaults depend on it."""
    dataset: str = "results/datasets/Pendulum-v1/medium.npz"
    """File that `collect_dataset.py` wrote."""
    weights: Literal["alike", "by_return", "by_advantage"] = "alike"
    """How often steps are drawn: all alike, or those of better episodes more often."""
    updates: int = 100_000
    """Gradient steps; of the critics, where an algorithm has them."""
    seeds: int = 5
    """Agents per combination of hyperparameters; their seeds count up from `first_seed`."""
    agent: Any = iql.Config()
    """The algorithm's static settings."""
    hypers: Any = iql.Hypers()
    """The algorithm's hyperparameters."""
    run: RunFlags = RunOptions()
    """How to run."""

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.algorithm} on {Path(self.dataset).stem}"

    @classmethod
    def recommended(cls, algorithm: str) -> "Settings":
        """Return the settings that suit an algorithm.

        Raises:
            ValueError: for an unknown algorithm, with a suggestion.
        """
        require_known("algorithm", algorithm, ALGORITHMS)
        module = ALGORITHMS[algorithm]
        often = RunOptions(
            out=f"results/offline/{algorithm}", chunk=512, log_every=64, checkpoint_every=32,
            eval_greedy=True,
        )  # fmt: skip
        return cls(algorithm=algorithm, agent=module.Config(), hypers=module.Hypers(), run=often)


def build(settings: Settings) -> Job:
    require_count(settings, "updates")
    delay = getattr(settings.agent, "policy_delay", 1)
    expected = f"an integer >= policy_delay = {delay}"
    require(settings.updates >= delay, settings, "updates", expected)
    dataset, card = load_dataset(settings.dataset)
    env, env_params = envs.make(card.env, **card.env_settings)
    env = for_network(env, tables=True)
    algorithm = ALGORITHMS[settings.algorithm].make(settings.agent, env)
    return Job(
        algorithm,
        env_params,
        settings.updates // delay,
        env,
        shared={"dataset": WEIGHTS[settings.weights](dataset)},
    )


def write(outcome: Outcome) -> None:
    """Save and say normalised scores: OUT/scores.csv."""
    save_scores(outcome.result, load_card(outcome.settings.dataset))


if __name__ == "__main__":
    launch(Settings, build, save=write)
