"""PPO with memory on mazes that a curriculum chooses, tested on the standard held-out mazes.

python experiments/maze.py --curriculum dr      # domain randomisation: new random mazes
python experiments/maze.py --curriculum plr     # robust PLR: mazes of the highest scores, replayed
python experiments/maze.py --curriculum accel   # ACCEL: mazes that evolve by edits, from empty ones
python experiments/maze.py --curriculum dr,plr,accel --max-walls 25 --total-steps 2e7
python experiments/maze.py --curriculum plr --learner.score maxmc
python experiments/maze.py --curriculum accel --learner.num-edits 20

Every run ends with OUT/held_out.csv and OUT/held_out.png: how often students solve each maze.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.table import Table

from algos import accel, plr, ppo, ppo_rnn
from envs import maze, maze_levels
from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say, updates_for
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.evaluate import Evaluator, evaluate
from purejaxrl.running.logs import console
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.stats import PROBABILITY, interval
from purejaxrl.ued import student
from purejaxrl.ued.curriculum import Curriculum, SampleLevel, uniform
from purejaxrl.ued.scores import SCORES
from purejaxrl.ued.student import OwnLevel
from purejaxrl.validation import require_choice, require_count, require_known

ATTEMPTS = 10
"""Episodes in each held-out maze, with sampled actions."""


@dataclass(frozen=True)
class DomainRandomization:
    """Domain randomisation has no settings."""

    title = "Domain randomisation"

    def make(self, sample_level: SampleLevel) -> Curriculum:
        """Make the curriculum."""
        return uniform(sample_level)


@dataclass(frozen=True)
class Plr:
    """Settings of robust PLR."""

    score: str = "pvl"
    """Score by which levels are kept and replayed: see purejaxrl/ued/scores.py."""
    capacity: int = 4000
    """Slots of the buffer, at least as many as the student has environments."""

    def __post_init__(self):
        require_choice(self, "score", tuple(sorted(SCORES.keys() - {"regret"})))
        require_count(self, "capacity")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"Robust PLR ({self.score})"

    def make(self, sample_level: SampleLevel) -> Curriculum:
        """Make the curriculum."""
        return plr.curriculum(sample_level, SCORES[self.score], self.capacity)


@dataclass(frozen=True)
class Accel(Plr):
    """Settings of ACCEL."""

    num_edits: int = 5
    """Edits of a level after its replay."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "num_edits")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"ACCEL ({self.score}), {self.num_edits} edits at a time,"

    def make(self, sample_level: SampleLevel) -> Curriculum:
        """Make the curriculum."""
        mutate = partial(maze_levels.mutate, num_edits=self.num_edits)
        return accel.curriculum(sample_level, mutate, SCORES[self.score], self.capacity)


AGENT = ppo.Hypers(
    learning_rate=1e-3, gamma=0.995, gae_lambda=0.98, entropy_coef=1e-3, value_clip_eps=0.2
)
"""The agent's hyperparameters. JaxUED's learning rate is 1e-4, for fifty times as many steps."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and on which mazes."""

    curriculum: str = "dr"
    """Curriculum: dr, plr or accel; the other defaults depend on it."""
    max_walls: int = 60
    """Most walls of a new random maze: the literature has 25 and 60, and ACCEL begins with 0."""
    total_steps: float = 5e6
    """Environment steps of a student, including those from which it does not learn."""
    seeds: int = 4
    """Students."""
    learner: Any = DomainRandomization()
    """Static settings of the curriculum."""
    agent: ppo_rnn.Config = ppo_rnn.Config(
        num_envs=32, num_steps=256, num_epochs=5, num_minibatches=4, activation="relu"
    )
    """Static settings of the agent."""
    hypers: student.Hypers = student.Hypers(AGENT)
    """The agent's hyperparameters, and the curriculum's."""
    run: RunFlags = RunOptions()
    """How to run."""

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"{self.learner.title} on mazes of up to {self.max_walls} walls"

    @classmethod
    def recommended(cls, curriculum: str) -> "Settings":
        """Return the settings that suit a curriculum.

        A core trains one student at a time: vmapped, all would compute an update if one does.

        Raises:
            ValueError: for an unknown curriculum, with a suggestion.
        """
        require_known("curriculum", curriculum, RECOMMENDED)
        run = RunOptions(out=f"results/maze_{curriculum}", group=1)
        return replace(RECOMMENDED[curriculum], curriculum=curriculum, run=run)


RECOMMENDED = {
    "dr": Settings(),
    "plr": Settings(learner=Plr(), hypers=plr.hypers(AGENT)),
    "accel": Settings(learner=Accel(), hypers=accel.hypers(AGENT), max_walls=0),
}
"""Settings by curriculum."""


def build(settings: Settings) -> Job:
    """Build the job. Its level is a held-out maze: not for training, but to watch a student in.

    Students are evaluated on all held-out mazes.
    """
    sample_level = maze_levels.uniform(settings.max_walls)
    env = OwnLevel(FlattenObservation(maze.Maze(sample_level)))
    agent = ppo_rnn.make(settings.agent, env)
    algorithm = student.make(agent, env, settings.learner.make(sample_level))
    num_updates = updates_for(settings.total_steps, agent.steps_per_update)
    level = next(iter(maze.held_out().values()))
    evaluator = on_held_out(settings.run.eval_episodes)
    return Job(algorithm, level, num_updates, FlattenObservation(maze.Maze()), evaluator)


def play_held_out(
    algorithm: Algorithm, key: jax.Array, policy: Any, num_episodes: int
) -> jax.Array:
    """Play on the held-out mazes: returns, float32 `[num_mazes, num_episodes]`; 0: not solved."""
    env, levels = FlattenObservation(maze.Maze()), list(maze.held_out().values())

    def play(key: jax.Array, level: Any) -> jax.Array:
        return evaluate(
            algorithm, env, key, policy, level,
            num_episodes=num_episodes, greedy=False, max_steps=maze.MAX_STEPS,
        ).ret  # fmt: skip

    keys = jax.random.split(key, len(levels))
    return jax.vmap(play)(keys, jax.tree.map(lambda *x: jnp.stack(x), *levels))


def on_held_out(num_episodes: int) -> Evaluator:
    """Evaluate students by their mean return on the held-out mazes, and by their solve rate."""

    def play(algorithm: Algorithm, key: jax.Array, policy: Any, _: Any) -> Metrics:
        returns = play_held_out(algorithm, key, policy, num_episodes)
        solved = (returns > 0).mean()
        return {"episodes": jnp.int32(returns.size), "return": returns.mean(), "solved": solved}

    return Evaluator(play, f"held-out mazes, {num_episodes} episodes each")


def solve_rates(algorithm: Algorithm, state: Any) -> dict[str, np.ndarray]:
    """Fraction of the attempts that reach the goal, by maze: `[num_members]`."""

    def one(state: Any) -> jax.Array:
        policy = algorithm.policy(state)
        return (play_held_out(algorithm, jax.random.key(0), policy, ATTEMPTS) > 0).mean(-1)

    rates = np.asarray(jax.jit(lambda states: jax.lax.map(one, states))(state))
    return dict(zip(maze.held_out(), rates.T, strict=True))


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
        table.add_row(name, str(interval(frame[name].to_numpy(), bounds=PROBABILITY)))
    overall = interval(frame.mean(axis=1).to_numpy(), bounds=PROBABILITY)
    table.add_row("mean", str(overall), style="bold")
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


if __name__ == "__main__":
    launch(Settings, build, save=report)
