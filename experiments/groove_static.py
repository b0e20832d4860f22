r"""Do rules learned on a few levels of high regret generalise better than on a few random ones?

This asks a question of GROOVE (Jackson et al. 2023, arXiv 2310.02782) on fixed levels. First the
regret of many levels is measured: what A2C earns at the end of a life, minus what agents with a
rule earn. Then rules are learned on fixed levels of the highest regret, others on as many random
levels, each rule on levels of its own. All are tested beside A2C on new levels. Levels of high
regret also have high returns, so a third arm can have those on which agents with a rule earn most.
Killed and started again, it continues.

python experiments/groove_static.py
python experiments/groove_static.py --arms regret return random
python experiments/groove_static.py --num-levels 1000 --rules 3 --meta-steps 500    # a small one

OUT holds `levels.npz` (all levels, and the final returns on them), `regrets.csv` (how well
replicates agree), `levels.png` and `levels.csv` (the levels that rules learn on), a folder for each
arm (the rules, `rules-*/rule-N.npz`), `scores.csv` (every rule on every test level),
`table.csv`, `scores.png`, and `relative.csv` and `relative.png` (scores in units of A2C's).
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import envs
from algos import groove, lpg, meta_lpg
from algos.rules import LearnedRule, load_rule
from algos.rules.contenders import Tune, rules_and_a2c
from algos.rules.learn import learn_rules, require_rules
from envs import gallery
from envs.gridworld_levels import LEVELS
from envs.optimum import optimal_returns
from purejaxrl.launch import command, writable_folder
from purejaxrl.meta import gradient
from purejaxrl.parts.wrappers import for_network
from purejaxrl.study import regret, relative, tables
from purejaxrl.study.compare import Contender, Problem, Scale, compare, in_turn, prepare
from purejaxrl.study.horizons import KeptLives
from purejaxrl.ued.curriculum import fixed
from purejaxrl.validation import (
    check_hypers,
    require,
    require_count,
    require_known,
    require_names,
)

HIGHEST: Mapping[str, Callable[[regret.Regrets], np.ndarray]] = {
    "regret": lambda found: found.mean,
    "return": lambda found: found.agent.mean(0),
}
"""Arms whose levels have the highest values of a function, `[num_levels]`."""
ARMS = (*HIGHEST, "random")
CHUNK = 250
"""Levels whose returns are kept in one file."""
COLUMNS = 4
"""Levels of an arm in a row of `levels.png`."""


@dataclass(frozen=True)
class Settings:
    """Settings of the static experiment."""

    levels: str = "all_shortlife"
    """Distribution of levels and of lifetimes: see envs/gridworld_levels.py."""
    rule: str = "lpg_gridworlds"
    """Regret is measured against agents that learn by this rule: a shipped one, or a file. The
    default was learned as the rules of this experiment are, on random levels."""
    num_levels: int = 10_000
    """Levels whose regret is measured."""
    num_replicates: int = 2
    """Lives on each of these levels, by which it is ranked."""
    horizon: int = 100
    """Length of these lives, in updates."""
    num_episodes: int = 32
    """Evaluation episodes at the end of these lives."""
    arms: tuple[str, ...] = ("regret", "random")
    """Levels that rules are learned on: of the highest `regret`, of the highest `return` of the
    agents with the rule, or `random` ones, with which the others are compared."""
    num_chosen: int = 16
    """Levels that a rule is learned on."""
    rules: int = 5
    """Rules of each arm."""
    meta_steps: int = 2000
    """Meta-steps in which every rule is learned."""
    learner: gradient.Config = gradient.Config()
    """Static settings of the meta-learner."""
    agent: lpg.Config = lpg.Config(num_envs=16, rule_width=64)
    """Static settings of agents and learned rules; A2C has the same sizes."""
    hypers: gradient.Hypers = meta_lpg.gradient_hypers()
    """The meta-learner's hyperparameters."""
    envs: tuple[str, ...] = ("gridworld-all_shortlife", "gridworld-mazes", "Breakout-MinAtar")
    """Environments to test in."""
    on_levels: Scale = Scale(num_agents=128, num_tuning=16, num_updates=250)
    """Scale of the test where every agent has its own level."""
    elsewhere: Scale = Scale(num_agents=16, num_tuning=8, num_updates=3000)
    """Scale of the test where only seeds differ."""
    tune: Tune = "all"
    """What is tuned: the step size alone, or also a coefficient of the loss."""
    out: Path = Path("results/groove_static")
    """Folder."""

    def __post_init__(self):
        require_known("levels", self.levels, LEVELS)
        require_names(self, "arms", "arm", ARMS)
        require("random" in self.arms, self, "arms", "a list with random, the reference")
        require_count(
            self, "num_levels", "num_replicates", "horizon", "num_episodes", "num_chosen", "rules",
            "meta_steps",
        )  # fmt: skip
        most = self.num_levels // self.rules
        require(
            self.num_chosen <= most, self, "num_chosen",
            f"an integer <= num_levels / rules = {most}, as each rule has levels of its own",
        )  # fmt: skip
        require_names(self, "envs", "environment", envs.names())
        check_hypers(self.hypers)
        object.__setattr__(self, "out", writable_folder(self.out))

    def scale(self, problem: Problem) -> Scale:
        """Return the scale of the test in an environment."""
        return self.on_levels if problem.has_levels else self.elsewhere


def measure_regrets(settings: Settings, rule: LearnedRule) -> tuple[Any, pd.DataFrame]:
    """Measure the regret of many levels, and choose those that rules are learned on.

    Returns:
        The levels, leaves `[num_levels, ...]`; and a row for each level of each rule: `arm`, `rule`
        (its number), `level` (the index), `regret` (the mean by which levels are ranked), `again`
        (the mean of as many other lives, which chose nothing), `agent` and `antagonist` (final
        returns in those other lives) and `optimum` (the best return).
    """
    env, _ = envs.make(f"gridworld-{settings.levels}")
    hypers = groove.hypers().antagonist
    antagonist = Contender("antagonist", groove.make_antagonist(settings.agent, env), hypers)
    shared = {name: getattr(settings.agent, name) for name in ("num_envs", "num_steps")}
    shared["learning_rate"] = hypers.learning_rate
    agent = Contender("agent", *rule.agent(env, **shared))
    level_key, life_key = jax.random.split(jax.random.key(2))
    levels = jax.vmap(env.sample_level)(jax.random.split(level_key, settings.num_levels))
    lives = KeptLives(env, settings.num_episodes, settings.out / "lives")
    measure = partial(regret.measure, agent, antagonist, lives=lives, horizon=settings.horizon)
    # More levels, or more replicates, come after those that were measured before.
    keys = jax.vmap(partial(jax.random.split, num=settings.num_levels))(
        jax.random.split(life_key, settings.num_replicates)
    )
    found = measure(levels=levels, keys=keys, chunk=CHUNK)
    chosen = choose(found, settings.arms, settings.rules, settings.num_chosen)
    ours = regret.at(levels, chosen["level"].to_numpy())
    other_key = jax.random.fold_in(life_key, settings.num_replicates)
    keys = jax.random.split(other_key, (settings.num_replicates, len(chosen)))
    again = measure(levels=ours, keys=keys, chunk=len(chosen))
    chosen = chosen.assign(
        regret=found.mean[chosen["level"]],
        again=again.mean,
        agent=again.agent.mean(0),
        antagonist=again.antagonist.mean(0),
        optimum=optimal_returns(env, ours),
    )
    settings.out.mkdir(parents=True, exist_ok=True)
    np.savez(settings.out / "levels.npz", **vars(levels), **found._asdict())
    chosen.to_csv(settings.out / "levels.csv", index=False)
    describe(found, chosen, settings.out)
    draw_levels(env, levels, chosen[chosen["rule"] == 0], settings.out / "levels.png")
    return levels, chosen


def choose(
    found: regret.Regrets, arms: Sequence[str], num_rules: int, num_chosen: int
) -> pd.DataFrame:
    """Choose the levels of every rule of every arm.

    The highest levels are dealt to the rules in turn. The random levels are the first ones, because
    all are drawn independently; so they stay the same if more levels are measured.

    Args:
        found: returns on all levels.
        arms: some of `ARMS`.
        num_rules: rules of each arm.
        num_chosen: levels of each rule.

    Returns:
        A row for each level of each rule: `arm`, `rule` and `level`.
    """
    count = num_rules * num_chosen
    number = np.arange(count)
    own = {
        arm: {"rule": number % num_rules, "level": regret.highest(HIGHEST[arm](found), count)}
        if arm in HIGHEST
        else {"rule": number // num_chosen, "level": number}
        for arm in arms
    }
    return pd.concat([pd.DataFrame({"arm": arm} | own[arm]) for arm in arms], ignore_index=True)


def describe(found: regret.Regrets, chosen: pd.DataFrame, out: Path) -> None:
    """Write `regrets.csv`, and print it: how well replicates agree, and means by arm."""
    columns = ["regret", "again", "agent", "antagonist", "optimum"]
    table = chosen.groupby("arm", sort=False)[columns].mean().reset_index()
    table = table.assign(**{
        "all levels": np.nanmean(found.mean), "Spearman of two replicates": found.correlation(),
    }).round(4)  # fmt: skip
    table.to_csv(out / "regrets.csv", index=False)
    tables.print_table(table, title="algorithmic regret of the chosen levels, and of all levels")


def draw_levels(env: Any, levels: Any, chosen: pd.DataFrame, path: Path) -> None:
    """Draw the levels of every arm, side by side."""
    arms = [part for _, part in chosen.groupby("arm", sort=False)]
    rows = [
        part.iloc[start : start + COLUMNS]
        for start in range(0, len(arms[0]), COLUMNS)
        for part in arms
    ]
    shown = pd.concat(rows)
    titles = [f"{row.arm}: {row.regret:.2f}" for row in shown.itertuples()]
    params = [regret.at(levels, index) for index in shown["level"]]
    gallery.levels(env, params, path, titles, len(arms) * COLUMNS)


def learn_arm(settings: Settings, arm: str, levels: Any, chosen: pd.DataFrame) -> list[LearnedRule]:
    """Learn the rules of an arm, each on levels of its own."""
    env, _ = envs.make(f"gridworld-{settings.levels}")
    sample_lifetime = LEVELS[settings.levels].sample_lifetime
    files = []
    for number, part in chosen[chosen["arm"] == arm].groupby("rule"):
        curriculum = fixed(regret.at(levels, part["level"].to_numpy()))
        world = meta_lpg.world(settings.agent, env, sample_lifetime, curriculum=curriculum)
        learner = meta_lpg.by_gradient(settings.learner, settings.agent, world)
        files += learn_rules(
            learner, settings.hypers, settings.agent,
            num_rules=1, num_updates=settings.meta_steps, out=settings.out / arm, first_seed=number,
        )  # fmt: skip
    require_rules(arm, files)
    return [load_rule(file) for file in files]


def build(
    name: str, rules: dict[str, list[LearnedRule]], agent: lpg.Config, tune: Tune
) -> tuple[Problem, list[Contender]]:
    """Make an environment, every rule of every arm, and A2C."""
    env, env_params = envs.make(name)
    env = for_network(env, tables=True)
    problem = Problem(name, env, env_params, partial(optimal_returns, env))
    return problem, rules_and_a2c(rules, env, agent, tune)


def main(settings: Settings) -> None:
    rule = load_rule(settings.rule)
    make = partial(build, agent=settings.agent, tune=settings.tune)
    like_learned = replace(load_rule("lpg_gridworlds"), config=settings.agent)
    any_rule = like_learned.untrained(jax.random.key(0))  # what is learned below has its sizes
    prepare(settings.envs, partial(make, rules={"any": [any_rule]}), settings.scale)
    levels, chosen = measure_regrets(settings, rule)
    rules = {arm: learn_arm(settings, arm, levels, chosen) for arm in settings.arms}
    found = []
    for problem, contenders in in_turn(prepare(settings.envs, partial(make, rules=rules))):
        found.append(compare(contenders, problem, settings.scale(problem), settings.out)[0])
        pd.concat(found).to_csv(settings.out / "scores.csv", index=False)
    scores = pd.concat(found)
    tables.report(scores, "random", settings.out)
    relative.report(scores, "A2C", "random", settings.out)


if __name__ == "__main__":
    command(main, Settings)
