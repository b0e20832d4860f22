"""What learned objectives have learned: pictures of drifts and of LPG's rules.

A drift (LPO, TA-LPO) is drawn beside PPO's clip: its value and its gradient over the ratio and the
advantage, at the beginning, in the middle and at the end of life. For rules (LPG, TA-LPG) there are
two questions: how does entropy fall over lives of several lengths, and how does an update change if
the rule is told another time n/N?

python experiments/objective_atlas.py --objectives lpo ta_lpo
python experiments/objective_atlas.py --objectives lpg results/ta_lpg_meta_train/rule-0.npz

OUT holds `NAME.png` for every drift, and `rules.png` and `rules.csv` for all rules.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.progress import track

import envs
from algos import lpg, lpo, ta_lpo
from algos.ppo import LossInputs
from algos.rules import LearnedRule, load_rule
from envs.gridworld_levels import LEVELS
from purejaxrl.algorithm import Task
from purejaxrl.launch import command, say, writable_folder
from purejaxrl.running.devices import layout
from purejaxrl.running.logs import console
from purejaxrl.study.tables import estimate
from purejaxrl.validation import require, require_count, require_counts, require_known

AGES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Settings:
    """Settings of the atlas."""

    objectives: tuple[str, ...]
    """Names of shipped rules and drifts, or files of them."""
    labels: tuple[str, ...] = ()
    """What to call them; by default after their files."""
    clip_eps: float = 0.2
    """Clip range of PPO, which is drawn beside the drifts."""
    levels: str = "all_vrandlife"
    """Distribution of the levels for rules: see envs/gridworld_levels.py."""
    horizons: tuple[int, ...] = (10, 50, 250)
    """Lengths of life for rules, in updates."""
    num_agents: int = 64
    """Agents of a rule, each with its own level."""
    out: Path = Path("results/objective_atlas")
    """Folder."""

    def __post_init__(self):
        require_known("levels", self.levels, LEVELS)
        require_count(self, "num_agents")
        require_counts(self, "horizons")
        require(0 < self.clip_eps < np.inf, self, "clip_eps", "a finite number > 0")
        require(bool(self.objectives), self, "objectives", "one or more rules or drifts")
        labels = self.names()
        files = len(labels) == len(set(labels)) == len(self.objectives)
        files &= not any("/" in label for label in labels)
        expected = f"a name of a file for each objective, all different, not {labels}"
        require(files, self, "labels", expected)
        for name in self.objectives:
            rule = load_rule(name)
            drawn = rule.kind.field == "drift" or isinstance(rule.config, lpg.Config)
            told = f"drifts and rules of LPG; {name} is a rule of {rule.kind.name}"
            require(drawn, self, "objectives", told)
        object.__setattr__(self, "out", writable_folder(self.out))

    def names(self) -> tuple[str, ...]:
        """What to call the objectives in tables and files."""
        return self.labels or tuple(
            f"{Path(x).parent.name}-{Path(x).stem}" if Path(x).suffix else x
            for x in self.objectives
        )


def draw_drift(name: str, rule: LearnedRule, settings: Settings) -> None:
    """Draw a drift F, and the gradient of the objective r A - F."""
    ratio, advantage = jnp.meshgrid(jnp.linspace(0.5, 1.5, 201), jnp.linspace(-2, 2, 201))
    learned, reads_age = rule.network.apply, isinstance(rule.config, ta_lpo.Config)
    drifts = {"PPO": lambda x, a: lpo.clipping(x, a, settings.clip_eps)}
    for age in (0.0, 0.5, 1.0) if reads_age else (0.0,):
        label = f"{name}, n/N = {age:g}" if reads_age else name
        drifts[label] = lambda x, a, age=age: learned(rule.params, LossInputs(x, a, age))

    figure = matplotlib.figure.Figure(figsize=(3 * len(drifts) + 1, 5.5), layout="constrained")
    panels = figure.subplots(2, len(drifts), sharex=True, sharey=True)
    for column, (label, drift) in zip(panels.T, drifts.items(), strict=True):

        def ascended(r: jax.Array, a: jax.Array, drift=drift) -> jax.Array:
            return r * a - drift(jnp.log(r)[None], a[None])[0]

        value = drift(jnp.log(ratio), advantage)
        slope = jax.vmap(jax.vmap(jax.grad(ascended)))(ratio, advantage)
        images = [
            axes.pcolormesh(ratio, advantage, x, cmap=cmap, vmin=low, vmax=high, rasterized=True)
            for axes, x, cmap, low, high in (
                (column[0], value, "Blues", 0, 0.6),
                (column[1], slope, "RdBu_r", -2, 2),
            )
        ]
        column[0].set_title(label, fontsize=9)
        column[1].set_xlabel("ratio r")
    for row, image, text in zip(
        panels, images, ("drift F", "gradient of r A - F in r"), strict=True
    ):
        row[0].set_ylabel("advantage A")
        figure.colorbar(image, ax=row, label=text)
    figure.savefig(settings.out / f"{name}.png", dpi=150)


class RuleToldAge:
    """A rule that reads a given age in place of the agent's."""

    def __init__(self, network: lpg.Rule):
        """Wrap a rule."""
        self.network = network

    def apply(self, rule_and_age: tuple, inputs: lpg.RuleInputs) -> lpg.Target:
        """Apply the rule as if the agent had this age."""
        params, age = rule_and_age
        return self.network.apply(params, inputs._replace(age=age))


def lives(rule: LearnedRule, horizon: int, settings: Settings) -> dict[str, np.ndarray]:
    """Train agents for whole lives, and measure what the rule does.

    Returns:
        `entropy` `[num_agents, horizon]`: the policy's entropy on the experience of each update.
        `pi_hat` and `change`, both `[num_agents, ages]`: what the update in the middle of life
        would be if the rule were told each of `AGES`. `pi_hat` is the root mean square of π̂,
        divided by its mean over the ages; `change` is the change of entropy by the update.
    """
    env, _ = envs.make(f"gridworld-{settings.levels}")
    agent, hypers = rule.agent(env)
    told = lpg.make(agent.config, env, RuleToldAge(rule.network))

    def entropy(state: lpg.State, experience: Any) -> jax.Array:
        return agent.log_prob(state, experience)[1]["entropy"]

    def one(key: jax.Array) -> dict[str, jax.Array]:
        level_key, key = jax.random.split(key)
        task = Task(env.sample_level(level_key), jnp.int32(horizon))

        def step(state: lpg.State, _: None):
            after, experience = agent.collect(state, hypers)
            before = entropy(after, experience)
            after, _ = agent.learn(after, hypers, experience)
            return after, before

        def at(state: lpg.State, experience: Any, age: jax.Array) -> tuple[jax.Array, jax.Array]:
            after, metrics = told.learn(state, hypers.replace(rule=(rule.params, age)), experience)
            change = entropy(after, experience) - entropy(state, experience)
            return jnp.sqrt(metrics["pi_hat_square"]), change

        state = agent.init(key, hypers, task)
        middle, early = jax.lax.scan(step, state, length=horizon // 2)
        _, late = jax.lax.scan(step, middle, length=horizon - horizon // 2)
        state, experience = agent.collect(middle, hypers)
        pi_hat, change = jax.vmap(lambda age: at(state, experience, age))(jnp.array(AGES))
        pi_hat /= pi_hat.mean()
        return {"entropy": jnp.concatenate([early, late]), "pi_hat": pi_hat, "change": change}

    plan = layout(settings.num_agents)
    keys = jax.random.split(jax.random.key(2), settings.num_agents)
    return jax.device_get(plan.trim(plan.jit(plan.map(one, (None,), None))(plan.place(keys))))


def tabulate_rules(rules: dict[str, LearnedRule], settings: Settings) -> pd.DataFrame:
    """Tabulate entropy over life and the effects of age, with intervals over agents.

    Agents that diverged are left out.
    """
    rows = []
    for name, rule in track(rules.items(), "rules", console=console):
        for horizon in settings.horizons:
            found = lives(rule, horizon, settings)
            ages = {"entropy": (np.arange(horizon) + 0.5) / horizon, "pi_hat": AGES, "change": AGES}
            for what, values in found.items():
                for age, value in zip(ages[what], values.T, strict=True):
                    about = {"rule": name, "horizon": horizon, "what": what, "age": age}
                    mean = estimate(value)
                    rows.append(about | (mean._asdict() if mean else {}))
    return pd.DataFrame(rows)


def draw_rules(table: pd.DataFrame, settings: Settings) -> None:
    """Draw the table, a row for each rule."""
    names = list(dict.fromkeys(table["rule"]))
    titles = {
        "entropy": ("entropy of the policy over life", "n/N"),
        "pi_hat": ("size of π̂ in the middle of life, relative", "n/N that the rule reads"),
        "change": ("change of entropy by that update", "n/N that the rule reads"),
    }
    figure = matplotlib.figure.Figure(figsize=(11, 2.6 * len(names) + 0.3), layout="constrained")
    panels = figure.subplots(len(names), 3, sharex=True, sharey="col", squeeze=False)
    for row, name in zip(panels, names, strict=True):
        row[0].set_ylabel(name)
        for axes, what in zip(row, titles, strict=True):
            part = table[(table["rule"] == name) & (table["what"] == what)]
            for horizon, line in part.groupby("horizon"):
                (drawn,) = axes.plot(line["age"], line["value"], label=f"N = {horizon}")
                axes.fill_between(
                    line["age"], line["low"], line["high"], color=drawn.get_color(), alpha=0.2, lw=0
                )
            axes.spines[["top", "right"]].set_visible(False)
    for axes, (title, _) in zip(panels[0], titles.values(), strict=True):
        axes.set_title(title, fontsize=10)
    for axes, (_, label) in zip(panels[-1], titles.values(), strict=True):
        axes.set_xlabel(label)
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(settings.out / "rules.png", dpi=150)


def main(settings: Settings) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    rules = {}
    for name, objective in zip(settings.names(), settings.objectives, strict=True):
        rule = load_rule(objective)
        if rule.kind.field == "drift":
            draw_drift(name, rule, settings)
        else:
            rules[name] = rule
    if rules:
        table = tabulate_rules(rules, settings)
        table.to_csv(settings.out / "rules.csv", index=False, float_format="%.5g")
        draw_rules(table, settings)
    say(f"pictures are in {settings.out}")


if __name__ == "__main__":
    command(main, Settings)
