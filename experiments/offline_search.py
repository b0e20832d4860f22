r"""How many online episodes it takes to find a good policy among those that were trained offline.

python experiments/offline.py --algorithm iql --hypers.beta 0.5,3,10 --hypers.expectile 0.5,0.7,0.9
python experiments/offline.py --algorithm td3_bc --hypers.alpha 1,2,2.5,3,4
python experiments/offline_search.py --runs results/offline/iql results/offline/td3_bc

Every run has many policies: seeds and hyperparameters. Each plays some episodes; then a bandit
looks for the best one, episode by episode (`purejaxrl/offline/protocol.py`). OUT/search.csv and
OUT/search.png have the return of the policy to deploy, by the number of episodes.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd

from purejaxrl.launch import Job, command, say, writable_folder
from purejaxrl.offline.protocol import Search, curve, deployed_return
from purejaxrl.running.commandline import load_members, rebuild
from purejaxrl.running.evaluate import evaluate_members
from purejaxrl.validation import require, require_count, require_distinct, require_seed


@dataclass(frozen=True)
class Settings:
    """Which policies to choose from, and how."""

    runs: tuple[Path, ...] = (Path("results/offline/iql"),)
    """Folders of runs of `offline.py`; each is a line of the picture."""
    stored_episodes: int = 1000
    """Episodes that each policy plays; the bandit draws from them."""
    policies: int = 20
    """Policies of a trial, drawn from those of the run."""
    episodes: int = 200
    """Episodes of a trial."""
    trials: int = 1000
    """Trials."""
    seed: int = 0
    """Seeds episodes and trials."""
    out: Path = Path("results/offline_search")
    """Folder."""

    def __post_init__(self):
        require_count(self, "stored_episodes", "policies", "episodes", "trials")
        require_distinct(self, "runs", "folders of runs")
        require_seed(self)
        require(self.policies > 1, self, "policies", "an integer >= 2, or there is no choice")
        object.__setattr__(self, "out", writable_folder(self.out))


class Policies(NamedTuple):
    """The policies of a run, and where they act."""

    job: Job
    states: Any  # of all members, leaves [num_members, ...]
    alive: np.ndarray  # bool [num_members], those that did not diverge


def load_policies(folder: Path, settings: Settings) -> Policies:
    """Load the policies of a run.

    Raises:
        ValueError: if they have no environment to act in, or too few did not diverge; see
            also `rebuild`.
    """
    plan = rebuild(folder)
    if plan.job.env is None:
        raise ValueError(f"runs: {folder} holds a run without an environment to act in")
    states, alive = load_members(plan)
    require(
        alive.sum() >= settings.policies, settings, "policies",
        f"at most {alive.sum()}, as many as {folder} has that did not diverge",
    )  # fmt: skip
    if not alive.all():
        say(f"{folder}: {(~alive).sum()} policies diverged, and are left out")
    return Policies(plan.job, states, alive)


def play(found: Policies, settings: Settings) -> np.ndarray:
    """Play episodes with every policy of a run: returns `[num_policies, stored_episodes]`."""
    job = found.job
    played = evaluate_members(
        job.algorithm, job.env, jax.random.key(settings.seed), found.states, job.env_params,
        num_episodes=settings.stored_episodes,
    )  # fmt: skip
    return np.asarray(played.ret)[found.alive]


def main(settings: Settings) -> None:
    how = Search(settings.policies, settings.episodes, settings.trials)
    search = jax.jit(lambda key, returns: deployed_return(key, returns, how))
    found, policies = [], {folder: load_policies(folder, settings) for folder in settings.runs}
    for folder, of_run in policies.items():
        returns = play(of_run, settings)
        say(f"{folder}: {len(returns)} policies, mean returns up to {returns.mean(1).max():.4g}")
        line = curve(search(jax.random.key(settings.seed), jnp.asarray(returns)))
        frame = pd.DataFrame(line, columns=["return", "low", "high"])
        found.append(frame.assign(run=str(folder), episodes=1 + np.arange(len(frame))))
    settings.out.mkdir(parents=True, exist_ok=True)
    data = pd.concat(found)
    data.to_csv(settings.out / "search.csv", index=False, float_format="%.6g")
    draw(data, settings.out / "search.png")
    say(f"search.csv and search.png are in {settings.out}")


def draw(data: pd.DataFrame, path: Path) -> None:
    """Draw the return of the policy to deploy, by the number of online episodes."""
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, line in data.groupby("run", sort=False):
        axes.plot(line["episodes"], line["return"], label=name)
        axes.fill_between(line["episodes"], line["low"], line["high"], alpha=0.3)
    axes.set(xscale="log", xlabel="online episodes", ylabel="return of the deployed policy")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    command(main, Settings)
