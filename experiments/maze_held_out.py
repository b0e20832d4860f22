"""How often students solve the standard held-out mazes; for the experiments on mazes.

Not an experiment of its own: `maze_dr.py`, `maze_plr.py` and `maze_accel.py` end with it.
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
from purejaxrl.launch import Experiment, Outcome
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.evaluate import evaluate
from purejaxrl.running.logs import console
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.stats import interval
from purejaxrl.ued.student import OwnLevel

ATTEMPTS = 10
"""At each maze, by the stochastic policy."""


@dataclass(frozen=True)
class MazeExperiment(Experiment):
    """What the experiments on mazes share."""

    max_walls: int = 60
    """Walls of a random maze, at most: the literature has 25 and 60."""
    total_steps: float = 5e6
    """Environment steps of a student, those included from which it does not learn."""
    seeds: int = 4
    """Students."""
    student: ppo_rnn.Config = ppo_rnn.Config(
        num_envs=32, num_steps=256, num_epochs=5, num_minibatches=4, activation="relu"
    )
    """The student's settings."""

    @property
    def num_updates(self) -> int:
        """Length of the run."""
        return int(self.total_steps) // self.student.batch_size


STUDENT = ppo.Hypers(
    learning_rate=1e-3, gamma=0.995, gae_lambda=0.98, entropy_coef=1e-3, value_clip_eps=0.2
)
"""The student's hyperparameters; JaxUED has a learning rate of 1e-4, for fifty times the steps."""


def options(out: str) -> RunOptions:
    """A student at a time on a core, lest all pay where one learns."""
    return RunOptions(out=out, group=1)


def make_student(settings: MazeExperiment) -> tuple[Algorithm, OwnLevel]:
    """PPO with memory, a maze in each of its environments."""
    env = OwnLevel(FlattenObservation(maze.Maze(maze_levels.uniform(settings.max_walls))))
    return ppo_rnn.make(settings.student, env), env


def solve_rates(algorithm: Algorithm, state: Any) -> dict[str, np.ndarray]:
    """Part of the attempts that reach the goal, by maze: `[num_members]`."""
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
    """Print and draw solve rates; they are written to OUT/held_out.csv."""
    result = outcome.result
    rates = solve_rates(outcome.job.algorithm, result.state)
    frame = pd.DataFrame(rates, index=pd.Index(result.population.names, name="member"))
    frame.to_csv(result.out / "held_out.csv", float_format="%.6g")
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
    console.print(f"held_out.csv and held_out.png are in {result.out}", highlight=False)
    return frame
