r"""PPO against DPO, LPO and TA-LPO at tuned step sizes: is a learned clip better than PPO's?

The default environments are among the worlds of drifts (`algos/rules/drift_worlds.py`), so this is
no test of transfer: `drift_robustness.py` is.

All have the same settings except for the drift, and all anneal their step size to 0. The step size
and the entropy bonus of each are tuned on other agents. For LPO and TA-LPO, name shipped drifts,
files, or folders of `.npz` files; the drifts of a folder are one contender. Killed and started
again, it continues.

python experiments/ppo_vs_lpo.py --drifts lpo ta_lpo
python experiments/ppo_vs_lpo.py --drifts results/lpo_meta_train results/ta_lpo_meta_train \
    --envs CartPole-v1 Acrobot-v1 --total-steps 2e5

OUT holds `scores.csv`, `table.csv`, `scores.png`, and learning curves by environment.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

import envs
from algos import ppo
from algos.rules.clips import check_drifts, make_contenders
from algos.rules.contenders import Tune
from purejaxrl.launch import command, updates_for, writable_folder
from purejaxrl.parts.wrappers import for_network
from purejaxrl.study import plots, tables
from purejaxrl.study.compare import Contender, Problem, Scale, compare, in_turn, prepare
from purejaxrl.study.tuning import check_grid
from purejaxrl.validation import require_count, require_names


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    drifts: tuple[str, ...] = ("lpo", "ta_lpo")
    """Names of shipped drifts, files, or folders of files."""
    envs: tuple[str, ...] = ("CartPole-v1", "Acrobot-v1", "Catch-bsuite", "SpaceInvaders-MinAtar")
    """Environments to compare in."""
    total_steps: float = 2e5
    """Environment steps of a life."""
    seeds: int = 16
    """Agents of every contender and of every drift, with the same seeds."""
    num_tuning: int = 8
    """Other agents, with which hyperparameters are tuned."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Step sizes to try."""
    tune: Tune = "all"
    """What is tuned: the step size alone, or also the entropy bonus."""
    tuning_rounds: int = 2
    """How often more values are tried, around the best one so far."""
    greedy_episodes: int = 16
    """Episodes that each final policy plays by its most likely actions; 0 for none."""
    agent: ppo.Config = ppo.Config(num_envs=16, num_steps=64, activation="tanh")
    """Static settings of all agents, those that learn by a drift too. The network of a drift is as
    it was evolved."""
    out: Path = Path("results/ppo_vs_lpo")
    """Folder."""

    def __post_init__(self):
        require_count(self, "seeds", "num_tuning")
        require_names(self, "envs", "environment", envs.names())
        check_grid("Settings", {"learning_rate": self.learning_rates}, ppo.Hypers())
        check_drifts(self)
        object.__setattr__(self, "out", writable_folder(self.out))


def build(name: str, settings: Settings) -> tuple[Problem, list[Contender]]:
    """Make the problem of an environment, and its contenders."""
    env, env_params = envs.make(name)
    env = for_network(env)
    found = make_contenders(
        env, settings.agent, settings.drifts, settings.tune, settings.learning_rates
    )
    return Problem(name, env, env_params), found


def main(settings: Settings) -> None:
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    scale = Scale(
        settings.seeds, settings.num_tuning, num_updates,
        settings.tuning_rounds, settings.greedy_episodes,
    )  # fmt: skip
    found = []
    prepared = prepare(settings.envs, partial(build, settings=settings), lambda _: scale)
    for problem, contenders in in_turn(prepared):
        scores, metrics = compare(contenders, problem, scale, settings.out)
        picture = settings.out / problem.name / "curves.png"
        plots.learning_curves(metrics, picture, by=("contender",), title=problem.name)
        found.append(scores)
        pd.concat(found).to_csv(settings.out / "scores.csv", index=False)
    tables.report(pd.concat(found), "PPO", settings.out)


if __name__ == "__main__":
    command(main, Settings)
