r"""Objectives on verified rewards, on one small token task, from one warm start.

python experiments/token_lab.py
python experiments/token_lab.py --objectives grpo,drgrpo,dapo,rloo --seeds 16
python experiments/token_lab.py --objectives grpo --coefs kl_coef=0,0.01,0.1 --seeds 8
python experiments/token_lab.py --task token-sort --objectives grpo,spo --agent.num-answers 16

A small transformer first learns reference solutions. Every objective then continues its training,
with several seeds side by side. All are evaluated on the same prompts, which are not trained on.

Killed and started again, it continues. OUT holds `scores.csv` (a row for each policy), `table.csv`,
`curves.csv`, `curves.png`, `weights.csv` and `weights.png` (how strongly each objective learns from
prompts, by their accuracy), and a run for the warm start and for each objective.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd

import envs
from algos import grpo, sft, token_evaluation, token_policy
from algos.objectives import OBJECTIVES, Objective
from algos.prompt_weights import weigh_prompts
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import Job, command, print_estimates, say, writable_folder
from purejaxrl.running import record
from purejaxrl.running.chunk import QUICK_COMPILATION
from purejaxrl.running.commandline import Plan
from purejaxrl.running.population import Row, Rows, grid, populate, seeds
from purejaxrl.running.result import Result
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study.stats import interval
from purejaxrl.study.tables import print_table
from purejaxrl.validation import (
    check_hypers,
    require,
    require_count,
    require_known,
    require_names,
)

WARM_UPDATES = {
    "token-arithmetic": 400,
    "token-copy": 80,
    "token-countdown": 800,
    "token-reverse": 28,
    "token-sort": 48,
}
"""Updates of the warm start after which a policy solves 20 to 40 % of new prompts."""
NUM_WEIGHED = 512
"""Prompts whose weights are averaged."""


@dataclass(frozen=True)
class Settings:
    """Settings of the lab."""

    task: str = "token-countdown"
    """Token task; `python -m envs` lists them."""
    objectives: tuple[str, ...] = ("grpo", "drgrpo", "dapo", "rloo", "cispo", "dph_rl")
    """Objectives: see algos/objectives."""
    seeds: int = 4
    """Policies of an objective."""
    first_seed: int = 0
    """Seed of the first policy."""
    updates: int = 200
    """Updates of an objective."""
    warm_updates: int = 0
    """Updates of the warm start; 0 chooses what suits the task."""
    num_test: int = 128
    """Prompts of an evaluation."""
    num_samples: int = 32
    """Answers to each prompt of an evaluation."""
    k: int = 16
    """k of pass@k."""
    eval_every: int = 50
    """Updates between evaluations."""
    learning_rate: float = grpo.Hypers().learning_rate
    """Adam's step size, for all objectives."""
    coefs: tuple[str, ...] = ()
    """Coefficients to sweep, for all objectives, such as `kl_coef=0,0.1 clip_low=0.1,0.2`."""
    agent: grpo.Config = grpo.Config()
    """Static settings of the policies and of an update."""
    dry_run: bool = False
    """Only say what would run: policies, tokens, memory, and an estimate of the time."""
    out: Path = Path("results/token_lab")
    """Folder."""

    def __post_init__(self):
        require_count(self, "seeds", "updates", "num_test", "num_samples", "k", "eval_every")
        names = tuple(name for word in self.objectives for name in word.split(","))
        object.__setattr__(self, "objectives", names)
        require_names(self, "objectives", "objective", OBJECTIVES)
        require_known("task", self.task, WARM_UPDATES)
        require(self.first_seed >= 0, self, "first_seed", "an integer >= 0")
        require(self.warm_updates >= 0, self, "warm_updates", "an integer >= 0")
        check_hypers(grpo.Hypers(learning_rate=self.learning_rate))
        named = [one.partition("=")[0] for one in self.coefs]
        once = len(set(named)) == len(named)
        require(once, self, "coefs", "different names, each with all its numbers")
        try:
            self.grid()
        except ValueError:
            require(False, self, "coefs", "names with numbers, such as kl_coef=0,0.1")
        divides = self.updates % self.eval_every == 0
        expected = f"a divisor of updates = {self.updates}, as scores are of the last policy"
        require(divides, self, "eval_every", expected)
        object.__setattr__(self, "out", writable_folder(self.out))

    def grid(self) -> Rows:
        """Return every combination of the coefficients that are swept."""
        pairs = (one.split("=") for one in self.coefs)
        values = {f"coefs.{name}": map(float, text.split(",")) for name, text in pairs}
        return grid(**values)


class Lab(NamedTuple):
    """What all objectives share."""

    settings: Settings
    env: Any
    levels: Any  # to train on
    evaluator: Any
    objectives: dict[str, Objective]
    algorithms: dict[str, Algorithm]


def build(settings: Settings) -> Lab:
    """Make the task and all algorithms, so that what does not fit is said before any training."""
    env, _ = envs.make(settings.task)
    require(settings.num_test <= env.num_held_out, settings, "num_test",
            f"at most {env.num_held_out}, the prompts that are not trained on")  # fmt: skip
    levels = jax.tree.map(jnp.asarray, env.levels)
    test = jax.tree.map(lambda x: x[: settings.num_test], env.held_out)
    evaluator = token_evaluation.on_prompts(
        settings.agent, env, test, settings.num_samples, settings.k
    )
    objectives = {name: OBJECTIVES[name] for name in settings.objectives}
    algorithms = {name: grpo.make(settings.agent, env, one) for name, one in objectives.items()}
    for one in objectives.values():
        populate(settings.grid(), grpo.Hypers(coefs=one.coefs))  # says which coefficients are wrong
    return Lab(settings, env, levels, evaluator, objectives, algorithms)


def warm_start(lab: Lab) -> tuple[Any, pd.DataFrame]:
    """Train a policy on reference solutions, or load it; returns it and its evaluation."""
    agent, settings = lab.settings.agent, lab.settings
    config = sft.Config(agent.num_layers, agent.width, agent.num_heads)
    algorithm = sft.make(config, lab.env)
    num_updates = settings.warm_updates or WARM_UPDATES[settings.task]
    who = populate(seeds(1), sft.Hypers(), lab.levels)
    out = record.folder_of(
        settings.out / "warm_start", algorithm, who, num_updates, lab.evaluator.name
    )
    options = RunOptions(out, resume=True, group=1, chunk=50, eval_every=num_updates)
    say(f"warm start: {num_updates:,} updates on reference solutions")
    result = run(algorithm, who, num_updates, options, evaluator=lab.evaluator)
    last = result.evaluations.iloc[-1]
    say(f"pass@1 {last['return']:.3f}, pass@{settings.k} {last[f'pass_at_{settings.k}']:.3f}")
    return result.member(0).params, result.evaluations


def plan(lab: Lab, name: str, start: Any) -> Plan:
    """Plan the run of an objective."""
    settings, algorithm = lab.settings, lab.algorithms[name]
    hypers = grpo.Hypers(start, lab.objectives[name].coefs, settings.learning_rate)
    rows = settings.grid() * seeds(settings.seeds, start=settings.first_seed)
    who = populate(rows, hypers, lab.levels, shared=("start",))
    how = settings.updates, lab.evaluator.name, settings.eval_every
    out = record.folder_of(settings.out / name, algorithm, who, *how)
    options = RunOptions(out, resume=True, chunk=10, eval_every=settings.eval_every)
    job = Job(algorithm, lab.levels, settings.updates, evaluator=lab.evaluator)
    return Plan(settings, job, who, options, ())


def train(lab: Lab, name: str, start: Any) -> Result:
    """Train the policies of an objective, or continue."""
    _, job, who, options, _ = plan(lab, name, start)
    say(f"{name}: {who.size} policies, {job.num_updates:,} updates")
    return run(job.algorithm, who, job.num_updates, options, evaluator=job.evaluator)


def label(name: str, row: Row) -> str:
    """Name an objective with the coefficients that a policy sets."""
    own = [f"{key.removeprefix('coefs.')}={x:g}" for key, x in row.items() if key != "seed"]
    return " ".join([name, *own])


def score(name: str, result: Result, settings: Settings) -> pd.DataFrame:
    """Return a row for each policy: its last evaluation, and the end of its training."""
    last = result.evaluations.groupby("member").tail(1).set_index("member")
    seen = result.metrics
    late = seen[seen["update"] > 0.9 * settings.updates].groupby("member")
    rows = result.population.rows
    frame = pd.DataFrame({
        "objective": [label(name, row) for row in rows],
        "seed": [row["seed"] for row in rows],
        "pass@1": last["return"],
        f"pass@{settings.k}": last[f"pass_at_{settings.k}"],
        "entropy": last["entropy"],
        "unique correct": last["unique_correct"],
        "length": last["length"],
        "wrong length": last["wrong_length"],
        "training pass@1": late["return"].mean(),
        "dead groups": late["dead_groups"].mean(),
        "KL to start": late["kl_to_reference"].mean(),
        "tokens": seen.groupby("member")["env_steps"].last(),
    })  # fmt: skip
    for i in np.flatnonzero(~result.alive):
        say(f"{name}, {result.population.names[i]}: diverged, and is left out of the scores")
    return frame[result.alive]


def learning_curves(name: str, result: Result, begun: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations of all policies, that of the warm start first."""
    parts = []
    for i, row in enumerate(result.population.rows):
        own = result.evaluations[result.evaluations["member"] == i]
        both = pd.concat([begun.assign(update=0, member=i, env_steps=0, seed=row["seed"]), own])
        parts.append(both.assign(objective=label(name, row)))
    return pd.concat(parts)


def weigh(lab: Lab, name: str, start: Any) -> pd.DataFrame:
    """Measure how strongly an objective pushes the warm start's answers, by a prompt's accuracy.

    The weight of a prompt is the sum over its answers of |∂loss/∂log π|, relative to the mean over
    all prompts. Coefficients are the objective's own, whatever is swept.
    """
    objective = lab.objectives[name]
    config = replace(lab.settings.agent, num_prompts=NUM_WEIGHED, num_minibatches=1)
    hypers = grpo.Hypers(start, objective.coefs)

    @functools.partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def measure(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return weigh_prompts(key, config, lab.env, objective, hypers, lab.levels)

    accuracy, weight = map(np.asarray, measure(jax.random.key(0)))
    frame = pd.DataFrame({"accuracy": accuracy, "weight": weight / max(weight.mean(), 1e-12)})
    grouped = frame.groupby("accuracy")["weight"].agg(["mean", "count"]).reset_index()
    return grouped.assign(objective=name)


def tabulate(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each objective: means with intervals over seeds."""
    rows = []
    for name, part in scores.groupby("objective", sort=False):
        row = {"objective": name}
        for column in scores.columns[2:]:
            values = part[column].dropna().to_numpy()
            row[column] = str(interval(values)) if len(values) else "none"
        rows.append(row)
    return pd.DataFrame(rows)


def line_style(i: int) -> dict[str, str]:
    """Return what tells the line of the i-th objective from others; 40 differ."""
    return {"linestyle": ("-", "--", ":", "-.")[i // 10 % 4], "color": f"C{i % 10}"}


def draw_curves(curves: pd.DataFrame, k: int, path: Path) -> None:
    """Draw pass@1, pass@k, entropy and unique correct answers along training."""
    panels = {"return": "pass@1", f"pass_at_{k}": f"pass@{k}", "entropy": "entropy",
              "unique_correct": "unique correct answers"}  # fmt: skip
    figure = matplotlib.figure.Figure(figsize=(14, 4), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        for i, (name, part) in enumerate(curves.groupby("objective", sort=False)):
            mean = part.groupby("update")[column].mean()
            axes.plot(mean.index, mean, **line_style(i), label=name)
        axes.set(title=title, xlabel="updates")
    add_legend(figure, *axes.get_legend_handles_labels())
    figure.savefig(path, dpi=150)


def add_legend(figure: matplotlib.figure.Figure, handles: list, labels: list[str]) -> None:
    """Name the objectives beside the panels, in columns of at most twenty."""
    columns = -(-len(labels) // 20)
    figure.legend(handles, labels, loc="outside right center", fontsize=6, ncols=columns)


def draw_weights(weights: pd.DataFrame, path: Path) -> None:
    """Draw the weight of prompts by their accuracy."""
    figure = matplotlib.figure.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for i, (name, part) in enumerate(weights.groupby("objective", sort=False)):
        axes.plot(part["accuracy"], part["mean"], **line_style(i), label=name)
    axes.set(
        title="with each objective's own coefficients",
        xlabel="share of correct answers to a prompt", ylabel="weight, over the mean weight",
    )  # fmt: skip
    add_legend(figure, *axes.get_legend_handles_labels())
    figure.savefig(path, dpi=150)


def print_lab_estimates(lab: Lab) -> None:
    """Print what the runs would take.

    That does not depend on the warm start, for which random weights stand in.
    """
    network = token_policy.make_network(lab.settings.agent, lab.env)
    start = token_policy.init_params(jax.random.key(0), network)
    print_estimates([plan(lab, name, start) for name in lab.objectives])
    say("names of folders will end otherwise: the last part depends on the warm start")


def main(settings: Settings) -> None:
    lab = build(settings)
    if settings.dry_run:
        print_lab_estimates(lab)
        return
    start, begun = warm_start(lab)
    scores, weights, curves = [], [], []
    for name in lab.objectives:
        result = train(lab, name, start)
        scores.append(score(name, result, settings))
        weights.append(weigh(lab, name, start))
        curves.append(learning_curves(name, result, begun))
        out = settings.out
        pd.concat(scores).to_csv(out / "scores.csv", index=False, float_format="%.6g")
        pd.concat(weights).to_csv(out / "weights.csv", index=False, float_format="%.6g")
        pd.concat(curves).to_csv(out / "curves.csv", index=False, float_format="%.6g")
        draw_curves(pd.concat(curves), settings.k, out / "curves.png")
        draw_weights(pd.concat(weights), out / "weights.png")
        tabulate(pd.concat(scores)).to_csv(out / "table.csv", index=False)
        jax.clear_caches()  # the next objective needs none of what was compiled for this one
    means = pd.concat(scores).drop(columns="seed").groupby("objective", sort=False).mean()
    print_table(means.round(3).reset_index(), title=f"{settings.task}: means over seeds")
    say(f"table and pictures are in {settings.out}")


if __name__ == "__main__":
    command(main, Settings)
