"""Put a learned rule to the test where it has never been, beside A2C, PPO and a rule untaught.

python experiments/lpg_meta_test.py --env gridworld-all_shortlife     # on levels it never saw
python experiments/lpg_meta_test.py --env gridworld-mazes,gridworld-dense,chain-short
python experiments/lpg_meta_test.py --env CartPole-v1,Breakout-MinAtar --num-updates 780

Every contender's step size is first tuned on agents (and levels) of their own; all have the same
interactions. Scores are returns in the last fifth of life, also as a fraction of the optimum where
that can be computed. OUT/ENV holds `scores.csv`, `table.csv` and `curves.png`.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from gymnax.environments import spaces
from rich.table import Table

import envs
from algos import a2c, lpg, ppo
from algos.rules import load_rule
from envs.gridworld import GridWorld, MovingGridWorld
from envs.gridworld_solution import solve
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import parse
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.logs import console
from purejaxrl.running.population import grid, populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study import plots
from purejaxrl.study.stats import final_scores, interval


@dataclass(frozen=True)
class Settings:
    """A rule's test."""

    rule: str = "lpg"
    """Name of a shipped rule, or the file of one."""
    env: str = "gridworld-all_shortlife"
    """Environment; one with levels gives every agent its own."""
    num_agents: int = 256
    """Agents of every contender: as many levels, or seeds."""
    num_tuning: int = 32
    """Other agents, on other levels, for every step size tried."""
    num_updates: int = 250
    """Length of a life."""
    num_envs: int = 0
    """Environments of an agent; 0 for as many as the rule was trained with."""
    out: Path = Path("results/lpg_meta_test")
    """Folder; a subfolder for the environment."""


@dataclass(frozen=True)
class Contender:
    """An algorithm and the step sizes to try."""

    name: str
    algorithm: Algorithm
    hypers: Any
    learning_rates: tuple[float, ...]


def contenders(settings: Settings, env: Any, env_params: Any) -> list[Contender]:
    """Those that can be on these observations; PPO needs arrays."""
    config, rule = load_rule(settings.rule)
    config = dataclasses.replace(config, num_envs=settings.num_envs or config.num_envs)
    is_table = not isinstance(env.observation_space(env_params), spaces.Box)
    rates = (0.01, 0.03, 0.1, 0.3) if is_table else (1e-4, 3e-4, 1e-3, 3e-3)
    untaught = lpg.init_rule(jax.random.key(0), config)
    sizes = {"num_envs": config.num_envs, "num_steps": config.num_steps}
    found = [
        Contender(name, lpg.make(config, env, lpg.Frozen(config, params)),
                  lpg.Hypers(), rates)
        for name, params in (("LPG", rule), ("untaught", untaught))
    ]  # fmt: skip
    hypers = a2c.Hypers(max_grad_norm=np.inf if is_table else 0.5)
    baseline = a2c.make(a2c.Config(**sizes, activation="relu"), env)
    found.append(Contender("A2C", baseline, hypers, rates))
    if not is_table:
        learner = ppo.make(ppo.Config(**sizes, activation="relu"), env)
        found.append(Contender("PPO", learner, ppo.Hypers(), rates))
    return found


def live(contender: Contender, rates: tuple, who: Any, env: Any, params: Any, updates: int, out):
    """Train agents and return their metrics."""
    rows = who * grid(learning_rate=rates)
    population = populate(rows, contender.hypers, params)
    if hasattr(env, "sample_level"):
        keys = jnp.stack([jax.random.fold_in(jax.random.key(1), row["seed"]) for row in rows])
        population = population._replace(env_params=jax.vmap(env.sample_level)(keys))
    console.print(f"{contender.name}: {population.size} agents, step sizes {rates}")
    options = RunOptions(str(out), resume=(out / "run.json").exists())
    return run(contender.algorithm, population, updates, options)


class Tested(NamedTuple):
    """A contender on its test agents."""

    metrics: pd.DataFrame
    scores: np.ndarray  # [num_agents]
    learning_rate: float  # the one it was tuned to
    levels: Any  # [num_agents, ...]


def tune_and_test(contender: Contender, settings: Settings, env: Any, params: Any, out: Path):
    """Choose a step size on some agents, and train others with it."""
    rates, updates = contender.learning_rates, settings.num_updates
    tuning = seeds(settings.num_tuning, start=1_000_000)
    tried = live(contender, rates, tuning, env, params, updates, out / "tuning")
    by_rate = final_scores(tried.metrics, fraction=0.2).reshape(settings.num_tuning, -1)
    with np.errstate(all="ignore"):
        means = np.where(np.isfinite(by_rate).all(0), by_rate.mean(0), -np.inf)
    rate = rates[int(means.argmax())]
    agents = seeds(settings.num_agents)
    done = live(contender, (rate,), agents, env, params, updates, out / "test")
    scores = final_scores(done.metrics, fraction=0.2)
    return Tested(done.metrics, scores, rate, done.population.env_params)


def optimum(env: Any, levels: Any) -> np.ndarray | None:
    """Optimal returns of levels, or None where they cannot be computed."""
    if isinstance(env, MovingGridWorld):
        return None
    if isinstance(env, GridWorld):
        return np.asarray(jax.jit(jax.vmap(solve))(levels).optimal_return)
    if hasattr(env, "optimal_return"):
        return np.asarray(jax.vmap(env.optimal_return)(levels))
    return None


def make_env(name: str) -> tuple[Any, Any]:
    """Make an environment with observations that an agent's networks take."""
    env, params = envs.make(name)
    space = env.observation_space(params)
    if isinstance(space, spaces.Box) and len(space.shape) > 1:
        env = FlattenObservation(env)
    return env, params


def test(settings: Settings) -> pd.DataFrame:
    """Test one environment; returns the table."""
    env, params = make_env(settings.env)
    out = settings.out / settings.env
    tested = {
        contender.name: tune_and_test(contender, settings, env, params, out / contender.name)
        for contender in contenders(settings, env, params)
    }
    best = optimum(env, tested["A2C"].levels)
    scores = {name: one.scores for name, one in tested.items()}
    chosen = {name: one.learning_rate for name, one in tested.items()}
    table = report(settings, scores, chosen, best)
    frame = pd.DataFrame(scores)
    if best is not None:
        frame["optimum"] = best
    frame.to_csv(out / "scores.csv", index_label="agent")
    table.to_csv(out / "table.csv", index=False)
    frames = [one.metrics.assign(contender=name) for name, one in tested.items()]
    title = f"{settings.env}: {settings.num_agents} agents"
    plots.learning_curves(pd.concat(frames), out / "curves.png", by=("contender",), title=title)
    console.print(f"scores, table and curves are in {out}", highlight=False)
    return table


def report(settings: Settings, scores: dict, chosen: dict, best: np.ndarray | None):
    """Tabulate mean scores, their part of the optimum, and the chance to beat A2C."""
    rows = []
    for name, score in scores.items():
        row = {"contender": name, "step size": chosen[name]}
        finite = np.isfinite(score)
        row["return"] = str(interval(score[finite]))
        if best is not None:
            solvable = finite & (best > 1e-3)
            row["of the optimum"] = str(interval(score[solvable] / best[solvable]))
        rival = scores["A2C"]
        both = finite & np.isfinite(rival)
        wins = (score > rival) + 0.5 * (score == rival)
        row["P(better than A2C)"] = str(interval(wins[both]))
        row["agents"] = int(finite.sum())
        rows.append(row)
    frame = pd.DataFrame(rows)
    shown = Table(
        *frame.columns, title=f"{settings.env}: last fifth of {settings.num_updates} updates"
    )
    for row in frame.itertuples(index=False):
        shown.add_row(*map(str, row))
    console.print(shown)
    return frame


if __name__ == "__main__":
    for chosen_settings in parse(Settings, sys.argv[1:]):
        test(chosen_settings)
