"""Test a learned rule on new levels and environments, beside A2C, PPO and an untrained rule.

python experiments/lpg_meta_test.py --env gridworld-all_shortlife
python experiments/lpg_meta_test.py --env gridworld-mazes,gridworld-dense,chain-short
python experiments/lpg_meta_test.py --env CartPole-v1,Breakout-MinAtar --num-updates 780

Every contender's step size is first tuned on other agents (and levels); all contenders have the
same number of interactions. A score is the return in the last fifth of an agent's life, also as a
fraction of the optimum where that can be computed. Killed and started again, it continues.
OUT/ENV holds `scores.csv`, `table.csv` and `curves.png`.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from purejaxrl.launch import errors_in_words, say
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.commandline import parse, writable_folder
from purejaxrl.running.logs import console
from purejaxrl.running.population import Rows, grid, populate, seeds
from purejaxrl.running.runner import Result
from purejaxrl.study import compare, plots
from purejaxrl.study.stats import final_scores, interval
from purejaxrl.validation import require, require_count, require_known


@dataclass(frozen=True)
class Settings:
    """Settings of the test."""

    rule: str = "lpg"
    """Name of a shipped rule of LPG or TA-LPG, or the file of one."""
    env: str = "gridworld-all_shortlife"
    """Environment; where it has levels, every agent has its own."""
    num_agents: int = 256
    """Agents of every contender, each with its own seed (and level)."""
    num_tuning: int = 32
    """Other agents, on other levels, for every step size tried."""
    num_updates: int = 250
    """Length of a life."""
    num_envs: int = 0
    """Environments of an agent; 0 for as many as the rule was trained with."""
    out: Path = Path("results/lpg_meta_test")
    """Folder; it has a subfolder for each environment."""

    def __post_init__(self):
        require_count(self, "num_agents", "num_tuning", "num_updates")
        require(self.num_envs >= 0, self, "num_envs", "an integer >= 0")
        require_known("environment", self.env, envs.names())
        load_rule(self.rule, lpg.Config)
        object.__setattr__(self, "out", writable_folder(self.out))


@dataclass(frozen=True)
class Contender:
    """An algorithm and the step sizes to try."""

    name: str
    algorithm: Algorithm
    hypers: Any
    learning_rates: tuple[float, ...]


def contenders(settings: Settings, env: Any, env_params: Any) -> list[Contender]:
    """Make every contender that can read the observations; PPO needs arrays."""
    config, rule = load_rule(settings.rule, lpg.Config)
    config = dataclasses.replace(config, num_envs=settings.num_envs or config.num_envs)
    is_table = not isinstance(env.observation_space(env_params), spaces.Box)
    rates = (0.01, 0.03, 0.1, 0.3) if is_table else (1e-4, 3e-4, 1e-3, 3e-3)
    untrained = lpg.init_rule(jax.random.key(0), config)
    sizes = {"num_envs": config.num_envs, "num_steps": config.num_steps}
    found = [
        Contender(name, lpg.make(config, env, lpg.Frozen(config, params)),
                  lpg.Hypers(), rates)
        for name, params in (("LPG", rule), ("untrained", untrained))
    ]  # fmt: skip
    hypers = a2c.Hypers(max_grad_norm=np.inf if is_table else 0.5)
    baseline = a2c.make(a2c.Config(**sizes, activation="relu"), env)
    found.append(Contender("A2C", baseline, hypers, rates))
    if not is_table:
        learner = ppo.make(ppo.Config(**sizes, activation="relu"), env)
        found.append(Contender("PPO", learner, ppo.Hypers(), rates))
    return found


def require_trainable(name: str, make_contenders: Callable[[Any, Any], Any]) -> None:
    """Make the contenders on an environment, to see before any training that all can be made.

    Raises:
        ValueError: naming the environment.
    """
    try:
        make_contenders(*make_env(name))
    except ValueError as error:
        raise ValueError(f"env: {name!r} is not valid: {error}") from error


def train(
    contender: Contender, rates: tuple, who: Rows, env: Any, params: Any, updates: int, out: Path
) -> Result:
    """Train an agent for every row of `who` and every step size; OUT-DIGEST keeps the run."""
    rows = who * grid(learning_rate=rates)
    population = populate(rows, contender.hypers, params)
    if hasattr(env, "sample_level"):
        keys = jnp.stack([jax.random.fold_in(jax.random.key(1), row["seed"]) for row in rows])
        population = population._replace(env_params=jax.vmap(env.sample_level)(keys))
    say(f"{contender.name}: {population.size} agents, step sizes {rates}")
    return compare.train(contender.algorithm, population, updates, out)


def choose_rate(rates: tuple[float, ...], scores: np.ndarray) -> float:
    """Choose the step size of the highest mean score, among those where the fewest agents failed.

    Args:
        rates: step sizes.
        scores: `[num_agents, num_rates]`; NaN: the agent diverged, or finished no episode.
    """
    sound = np.isfinite(scores)
    failed = (~sound).sum(axis=0)
    means = np.where(sound, scores, 0).sum(axis=0) / np.maximum(sound.sum(axis=0), 1)
    best = int(np.where(failed == failed.min(), means, -np.inf).argmax())
    if failed[best]:
        say(
            f"tuning: {failed[best]} of {len(scores)} agents diverged or finished no episode even "
            f"at the best step size, {rates[best]:g}"
        )
    return rates[best]


class Tested(NamedTuple):
    """A contender on its test agents."""

    metrics: pd.DataFrame
    scores: np.ndarray  # [num_agents]; NaN: the agent diverged, or finished no episode
    alive: np.ndarray  # bool [num_agents]; False: the agent diverged
    learning_rate: float  # the one it was tuned to
    levels: Any  # [num_agents, ...]


def tune_and_test(
    contender: Contender, settings: Settings, env: Any, params: Any, out: Path
) -> Tested:
    """Choose a step size on some agents, and train others with it."""
    rates, updates = contender.learning_rates, settings.num_updates
    tuning = seeds(settings.num_tuning, start=1_000_000)
    tried = train(contender, rates, tuning, env, params, updates, out / "tuning")
    by_rate = final_scores(tried.metrics, fraction=0.2).reshape(settings.num_tuning, -1)
    rate = choose_rate(rates, by_rate)
    agents = seeds(settings.num_agents)
    done = train(contender, (rate,), agents, env, params, updates, out / "test")
    scores = final_scores(done.metrics, fraction=0.2)
    return Tested(done.metrics, scores, done.alive, rate, done.population.env_params)


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
    table = tabulate(tested, best)
    frame = pd.DataFrame({name: one.scores for name, one in tested.items()})
    if best is not None:
        frame["optimum"] = best
    frame.to_csv(out / "scores.csv", index_label="agent")
    table.to_csv(out / "table.csv", index=False)
    frames = [one.metrics.assign(contender=name) for name, one in tested.items()]
    title = f"{settings.env}: {settings.num_agents} agents"
    plots.learning_curves(pd.concat(frames), out / "curves.png", by=("contender",), title=title)
    shown = Table(
        *table.columns, title=f"{settings.env}: last fifth of {settings.num_updates} updates"
    )
    for row in table.itertuples(index=False):
        shown.add_row(*map(str, row))
    console.print(shown)
    say(f"scores, table and curves are in {out}")
    return table


def tabulate(tested: dict[str, Tested], best: np.ndarray | None) -> pd.DataFrame:
    """Tabulate mean scores, also as a fraction of the optimum, and the chance to beat A2C.

    Agents that diverged or finished no episode are left out of the means; `agents` says how many
    are in, and `diverged` how many of the others diverged.
    """
    rows, baseline = [], tested["A2C"].scores
    for name, one in tested.items():
        sound = np.isfinite(one.scores)
        both = sound & np.isfinite(baseline)
        wins = (one.scores > baseline) + 0.5 * (one.scores == baseline)
        row = {"contender": name, "step size": one.learning_rate}
        row["return"] = describe(one.scores[sound])
        if best is not None:
            solvable = sound & (best > 1e-3)
            row["of the optimum"] = describe(one.scores[solvable] / best[solvable])
        row["P(better than A2C)"] = describe(wins[both])
        rows.append(row | {"agents": int(sound.sum()), "diverged": int((~one.alive).sum())})
    return pd.DataFrame(rows)


def describe(scores: np.ndarray) -> str:
    """Mean with its interval, or "none" without scores."""
    return str(interval(scores)) if scores.size else "none"


if __name__ == "__main__":
    with errors_in_words():
        parsed = parse(Settings, sys.argv[1:])
        for chosen in parsed:
            require_trainable(chosen.env, partial(contenders, chosen))
        for chosen in parsed:
            test(chosen)
