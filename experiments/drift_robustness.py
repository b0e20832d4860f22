r"""Which clip suits most step sizes? PPO, DPO, LPO and TA-LPO in environments that are new to them.

At step sizes that are tuned, clips hardly differ in small environments (`ppo_vs_lpo.py`). Here
nothing is tuned: every contender learns at every step size of a grid, and its score is the mean
over the grid. In each environment, 0 is a random policy and 1 is PPO at its best step size. For LPO
and TA-LPO, name shipped drifts, files, or folders of `.npz` files; the drifts of a folder are one
contender. Killed and started again, it continues.

python experiments/drift_robustness.py --drifts lpo ta_lpo
python experiments/drift_robustness.py --drifts results/lpo_meta_train results/ta_lpo_meta_train

OUT holds

- `scores.csv`, the score of every agent;
- `suite.csv`, `environments.csv` and `suite.png`, the means over all step sizes;
- `step_sizes.csv`, the means at each step size, and how many agents failed there;
- `step_sizes.png`, the means over and at all step sizes.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import matplotlib.figure
import pandas as pd

import envs
from algos import ppo
from algos.rules.clips import check_drifts, make_contenders
from purejaxrl.launch import command, say, updates_for, writable_folder
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.population import Rows, seeds
from purejaxrl.study import suite
from purejaxrl.study.compare import (
    Contender,
    Problem,
    in_turn,
    members,
    prepare,
    score_members,
    train,
)
from purejaxrl.study.stats import suite_interval
from purejaxrl.study.tables import by_agent
from purejaxrl.study.tuning import check_grid, combinations
from purejaxrl.validation import require_count, require_names

BASELINE, REFERENCE = "PPO", "PPO at its best"


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    drifts: tuple[str, ...] = ("lpo", "ta_lpo")
    """Names of shipped drifts, files, or folders of files."""
    envs: tuple[str, ...] = (
        "Breakout-MinAtar", "Freeway-MinAtar", "FourRooms-misc", "maze-25",
        "Pendulum-v1", "Reacher-misc", "PointRobot-misc",
    )  # fmt: skip
    """Environments to compare in; no drift is trained on the default ones."""
    total_steps: float = 2.05e5
    """Environment steps of a life. Its last fifth is scored, and is long enough for an episode of
    Freeway (2,500 steps) to end in each of the 16 environments."""
    seeds: int = 8
    """Agents of every contender, of every drift and at every step size, with the same seeds."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """The grid of step sizes."""
    agent: ppo.Config = ppo.Config(num_envs=16, num_steps=64, activation="tanh")
    """Static settings of all agents, those that learn by a drift too. The network of a drift is as
    it was evolved."""
    out: Path = Path("results/drift_robustness")
    """Folder."""

    def __post_init__(self):
        require_count(self, "seeds")
        require_names(self, "envs", "environment", envs.names())
        check_grid("Settings", {"learning_rate": self.learning_rates}, ppo.Hypers())
        check_drifts(self)
        object.__setattr__(self, "out", writable_folder(self.out))


def build(name: str, settings: Settings) -> tuple[Problem, list[Contender]]:
    """Make the problem of an environment, and its contenders."""
    env, env_params = envs.make(name)
    env = for_network(env)
    found = make_contenders(
        env, settings.agent, settings.drifts, "step-size", settings.learning_rates
    )
    return Problem(name, env, env_params), found


def score_all(
    contenders: Sequence[Contender], problem: Problem, num_agents: int, num_updates: int, out: Path
) -> pd.DataFrame:
    """Train every contender at every step size.

    Returns:
        Scores like those of `compare`: a row for each contender, rule, agent and `learning_rate`.
    """
    num_rules, found = Counter(), []
    for contender in contenders:
        rows = seeds(num_agents) * Rows(combinations(contender.grid))
        say(f"{problem.name}, {contender.name}: {len(rows)} agents")
        population = members(contender, rows, problem)
        folder = out / problem.name / contender.name
        result = train(contender.algorithm, population, num_updates, folder)
        found.append(pd.DataFrame({
            "env": problem.name,
            "contender": contender.name,
            "rule": num_rules[contender.name],
            "agent": [row["seed"] for row in rows],
            "learning_rate": [row["learning_rate"] for row in rows],
            "score": score_members(result),
            "alive": result.alive,
            "own_level": problem.has_levels,
        }))  # fmt: skip
        num_rules[contender.name] += 1
    return suite.with_random(pd.concat(found, ignore_index=True), problem)


def with_reference(scores: pd.DataFrame) -> pd.DataFrame:
    """Add PPO at the step size that is best for it in each environment, as one more contender.

    It is only the unit of scores: its step size is chosen by the scores of these same agents.
    """
    ours = scores[scores["contender"] == BASELINE]
    means = ours.groupby(["env", "learning_rate"])["score"].mean()
    best = means.groupby("env").idxmax()
    chosen = ours.set_index(["env", "learning_rate"]).loc[best].reset_index()
    return pd.concat([scores, chosen.assign(contender=REFERENCE)], ignore_index=True)


def by_step_size(scores: pd.DataFrame) -> pd.DataFrame:
    """Average normalised scores over environments, at each step size.

    Args:
        scores: what `suite.normalise` returns.

    Returns:
        Columns `contender`, `learning_rate`, `value`, `low`, `high`: the intervals treat agents and
        drifts as random samples, and leave out the error of the reference's mean. And `failed`: the
        number of agents that diverged or finished no episode.
    """
    rows = []
    for (name, rate), part in scores.groupby(["contender", "learning_rate"], sort=False):
        of_envs = [by_agent(each) for _, each in part.groupby("env", sort=False)]
        found = suite_interval(of_envs, num_shared=1)
        failed = {"failed": part["failed"].sum()}
        rows.append({"contender": name, "learning_rate": rate} | found._asdict() | failed)
    return pd.DataFrame(rows)


def draw(curves: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    """Draw mean scores against the step size, beside the interquartile means over the whole grid.

    Args:
        curves: what `by_step_size` returned.
        table: what `suite.tabulate` returned.
        path: the file.
    """
    figure = matplotlib.figure.Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.3))
    names, table = list(dict.fromkeys(curves["contender"])), table.set_index("contender")
    for i, name in enumerate(names):
        part = curves[curves["contender"] == name]
        rate = part["learning_rate"] * 1.03 ** (i - len(names) / 2)  # no bar hides another
        spread = [part["value"] - part["low"], part["high"] - part["value"]]
        left.errorbar(rate, part["value"], spread, marker="o", ms=3, lw=1, label=name)
        value, low, high = table.loc[name, ["iqm", "iqm_low", "iqm_high"]]
        right.errorbar([i], [value], [[value - low], [high - value]], fmt="o", capsize=4)
    left.set(xscale="log", xlabel="step size", ylabel="mean score\n(0: random, 1: PPO at its best)")
    right.set(xlabel="interquartile mean of\nmeans over step sizes", xticks=[])
    for axes in (left, right):
        axes.axhline(1, color="grey", lw=0.8, ls=":")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def main(settings: Settings) -> None:
    num_updates, out = updates_for(settings.total_steps, settings.agent.batch_size), settings.out
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for problem, contenders in in_turn(prepare(settings.envs, partial(build, settings=settings))):
        found.append(score_all(contenders, problem, settings.seeds, num_updates, out))
        pd.concat(found).to_csv(out / "scores.csv", index=False)
        jax.clear_caches()  # the next environment needs none of what was compiled for this one
    report(pd.concat(found), out)


def report(scores: pd.DataFrame, out: Path) -> None:
    """Write all tables and pictures but `scores.csv` to OUT.

    An agent that failed has the score of random actions on its level.

    Args:
        scores: what `score_all` returned, for all environments.
        out: the folder.
    """
    failed = scores["score"].isna()
    scores = scores.assign(failed=failed, score=scores["score"].fillna(scores["random"]))
    scores = suite.comparable(with_reference(scores), [REFERENCE])
    normalised = suite.normalise(scores, [REFERENCE])
    curves = by_step_size(normalised[normalised["contender"] != REFERENCE])
    curves.to_csv(out / "step_sizes.csv", index=False, float_format="%.5g")
    one_agent = ["env", "contender", "rule", "agent", "own_level"]
    means = scores.groupby(one_agent, sort=False, as_index=False)[["score", "random"]].mean()
    means = suite.normalise(means, [REFERENCE])
    means = means[means["contender"] != REFERENCE]
    table = suite.write(means, BASELINE, out, "mean over step sizes")
    draw(curves, table, out / "step_sizes.png")


if __name__ == "__main__":
    command(main, Settings)
