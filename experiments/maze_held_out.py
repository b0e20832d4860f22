"""How often students solve the standard held-out mazes, and what else the maze experiments share.

This is not an experiment of its own: `maze_dr.py`, `maze_plr.py` and `maze_accel.py` end with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.table import Table

from algos import ppo, ppo_rnn
from envs import maze, maze_levels
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import Experiment, Job, Outcome, say, updates_for
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.evaluate import evaluate
from purejaxrl.running.logs import console
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.stats import interval
from purejaxrl.ued.scores import SCORES
from purejaxrl.ued.student import OwnLevel

ATTEMPTS = 10
"""Episodes in each held-out maze, with sampled actions."""


@dataclass(frozen=True)
class MazeExperiment(Experiment):
    """Settings that the experiments on mazes share."""

    max_walls: int = 60
    """Most walls of a random maze: the literature has 25 and 60."""
    total_steps: float = 5e6
    """Environment steps of a student, including those from which it does not learn."""
    seeds: int = 4
    """Students."""
    agent: ppo_rnn.Config = ppo_rnn.Config(
        num_envs=32, num_steps=256, num_epochs=5, num_minibatches=4, activation="relu"
    )
    """Static settings of the student."""


STUDENT = ppo.Hypers(
    learning_rate=1e-3, gamma=0.995, gae_lambda=0.98, entropy_coef=1e-3, value_clip_eps=0.2
)
"""The student's hyperparameters. JaxUED's learning rate is 1e-4, for fifty times as many steps."""

SCORES_OF_STUDENTS = tuple(sorted(SCORES.keys() - {"regret"}))
"""Scores for a student alone; regret needs an antagonist."""


def options(out: str) -> RunOptions:
    """Train one student at a time on a core: vmapped, all would compute an update if one does."""
    return RunOptions(out=out, group=1)


def make_student(settings: MazeExperiment) -> tuple[Algorithm, OwnLevel]:
    """Make PPO with memory, and its environment, in which every copy has its own maze."""
    env = OwnLevel(FlattenObservation(maze.Maze(maze_levels.uniform(settings.max_walls))))
    return ppo_rnn.make(settings.agent, env), env


def make_job(algorithm: Algorithm, settings: MazeExperiment) -> Job:
    """Make the job. Its level is a held-out maze: not for training, but to watch a student in."""
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    level = next(iter(maze.held_out().values()))
    return Job(algorithm, level, num_updates, FlattenObservation(maze.Maze()))


def solve_rates(algorithm: Algorithm, state: Any) -> dict[str, np.ndarray]:
    """Fraction of the attempts that reach the goal, by maze: `[num_members]`."""
    env = FlattenObservation(maze.Maze())
    levels = maze.held_out()
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *levels.values())

    def one(state: Any) -> jax.Array:
        policy = algorithm.policy(state)
        play = lambda key, level: evaluate(  # noqa: E731
            algorithm, env, key, policy, level,
            num_episodes=ATTEMPTS, greedy=False, max_steps=maze.MAX_STEPS,
        )  # fmt: skip
        keys = jax.random.split(jax.random.key(0), len(levels))
        return (jax.vmap(play)(keys, stacked).ret > 0).mean(-1)

    rates = np.asarray(jax.jit(lambda states: jax.lax.map(one, states))(state))
    return dict(zip(levels, rates.T, strict=True))


def report(outcome: Outcome) -> pd.DataFrame:
    """Print, draw and save solve rates: OUT/held_out.csv, OUT/held_out.png.

    Students that diverged have no rates (NaN), and are not in the table's means.
    """
    result = outcome.result
    rates = solve_rates(outcome.job.algorithm, result.state)
    frame = pd.DataFrame(rates, index=pd.Index(result.population.names, name="member"))
    frame[~result.alive] = np.nan
    frame.to_csv(result.out / "held_out.csv", float_format="%.6g")
    diverged, frame = int((~result.alive).sum()), frame[result.alive]
    if diverged:
        say(f"{diverged} of {len(result.alive)} students diverged and are left out")
    if frame.empty:
        return frame
    table = Table("maze", "solve rate", title=f"held-out mazes, {ATTEMPTS} attempts each")
    for name in frame:
        table.add_row(name, str(interval(frame[name].to_numpy())))
    table.add_row("mean", str(interval(frame.mean(axis=1).to_numpy())), style="bold")
    console.print(table)

    figure = matplotlib.figure.Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.bar(list(frame), frame.mean(), color="tab:blue", alpha=0.5)
    for _, member in frame.iterrows():
        axes.plot(list(frame), member, "k.", ms=4)
    axes.set(ylabel="solve rate", ylim=(0, 1.05))
    axes.tick_params(axis="x", rotation=45)
    figure.savefig(Path(result.out) / "held_out.png", dpi=150)
    say(f"held_out.csv and held_out.png are in {result.out}")
    return frame
