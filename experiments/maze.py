"""PPO with memory on mazes that a curriculum chooses, tested on the standard held-out mazes.

python experiments/maze.py --curriculum dr      # domain randomisation: new random mazes
python experiments/maze.py --curriculum plr     # robust PLR: mazes of the highest scores, replayed
python experiments/maze.py --curriculum accel   # ACCEL: mazes that evolve by edits, from empty ones
python experiments/maze.py --curriculum sfl     # SFL: mazes that are solved half of the time
python experiments/maze.py --curriculum frontier    # the same, without a search
python experiments/maze.py --curriculum paired  # PAIRED: a teacher builds mazes by regret
python experiments/maze.py --curriculum paired_regret   # a teacher whose reward is true regret
python experiments/maze.py --curriculum clutr --learner.autoencoder results/maze_autoencoder/model-0
python experiments/maze.py --curriculum dr,plr,accel --max-walls 25 --total-steps 2e7
python experiments/maze.py --curriculum plr --learner.score true_regret
python experiments/maze.py --curriculum sfl_regret      # searches by true regret
python experiments/maze.py --curriculum mixed_regret    # replays by regret; learns on new ones, too
python experiments/maze.py --curriculum accel --learner.num-edits 20

Every run ends with OUT/held_out.csv and OUT/held_out.png: how often students solve each maze.
"""

from purejaxrl.running.devices import on_cpu, use_cpu_cores

use_cpu_cores()

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
from rich.table import Table

from algos import ppo_rnn
from algos.curricula import METHODS, STUDENT, STUDENT_CONFIG, DomainRandomization
from envs import maze
from envs.maze_domain import mazes
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say, updates_for
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.logs import console
from purejaxrl.running.population import name_of
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.robustness import on_levels, solve_rates, stack_levels
from purejaxrl.study.stats import PROBABILITY, interval
from purejaxrl.ued import student
from purejaxrl.validation import require_known

ATTEMPTS = 10
"""Episodes in each held-out maze, with sampled actions."""
TEST_ENV = FlattenObservation(maze.Maze())
"""Where students are tested."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train, and on which mazes."""

    curriculum: str = "dr"
    """Curriculum: dr, plr, plr_regret, mixed_regret, accel, sfl, sfl_regret, frontier, paired,
    paired_regret, clutr or clutr_regret; the other defaults depend on it."""
    max_walls: int = 60
    """Most walls of a new random maze: the literature has 25 and 60, and ACCEL begins with 0."""
    total_steps: float = 5e6
    """Environment steps, including those of an antagonist and of searches."""
    seeds: int = 4
    """Students."""
    learner: Any = DomainRandomization()
    """Static settings of the curriculum."""
    agent: ppo_rnn.Config = STUDENT_CONFIG
    """Static settings of the agent."""
    hypers: student.Hypers = student.Hypers(STUDENT)
    """The agent's hyperparameters, and the curriculum's."""
    run: RunFlags = RunOptions()
    """How to run."""

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.learner.title} on mazes of up to {self.max_walls} walls"

    @classmethod
    def recommended(cls, curriculum: str) -> "Settings":
        """Return the settings that suit a curriculum.

        A core trains one student at a time: vmapped students all compute an update if one does.

        Raises:
            ValueError: for an unknown curriculum, with a suggestion.
        """
        require_known("curriculum", curriculum, METHODS)
        method = METHODS[curriculum]()
        return cls(
            curriculum=curriculum, max_walls=0 if curriculum == "accel" else 60,
            learner=method, hypers=method.hypers(STUDENT),
            run=RunOptions(out=f"results/maze_{curriculum}", group=1 if on_cpu() else None),
        )  # fmt: skip


def build(settings: Settings) -> Job:
    """Build the job. Its level is a held-out maze: not for training, but to watch a student in.

    Students are evaluated on all held-out mazes.
    """
    levels = mazes(settings.max_walls)
    agent = ppo_rnn.make(settings.agent, levels.env)
    curriculum = settings.learner.make(levels, agent)
    algorithm = student.make(agent, levels.env, curriculum, levels.optimal_return)
    steps = agent.steps_per_update + round(curriculum.extra_steps)
    num_updates = updates_for(settings.total_steps, steps)
    level = maze.held_out()["SixteenRooms"]
    held_out, episodes = stack_levels(maze.held_out().values()), settings.run.eval_episodes
    evaluator = on_levels(TEST_ENV, held_out, episodes, maze.MAX_STEPS)
    return Job(algorithm, level, num_updates, TEST_ENV, evaluator)


def held_out_rates(algorithm: Algorithm, state: Any) -> dict[str, np.ndarray]:
    """Fraction of the attempts that reach the goal, by maze: `[num_members]`."""
    rates = solve_rates(
        algorithm, TEST_ENV, state, stack_levels(maze.held_out().values()),
        num_episodes=ATTEMPTS, max_steps=maze.MAX_STEPS,
    )  # fmt: skip
    return dict(zip(maze.held_out(), rates.T, strict=True))


def report(outcome: Outcome) -> pd.DataFrame:
    """Print, draw and save solve rates: OUT/held_out.csv, OUT/held_out.png.

    Students are averaged only with those of the same hyperparameters.

    Students that diverged have no rates (NaN), and are not in the table's means.
    """
    result = outcome.result
    rates = held_out_rates(outcome.job.algorithm, result.state)
    frame = pd.DataFrame(rates, index=pd.Index(result.population.names, name="member"))
    frame[~result.alive] = np.nan
    frame.to_csv(result.out / "held_out.csv", float_format="%.6g")
    diverged, frame = int((~result.alive).sum()), frame[result.alive]
    if diverged:
        say(f"{diverged} of {len(result.alive)} students diverged and are left out")
    if frame.empty:
        return frame
    combination = [
        name_of({k: v for k, v in row.items() if k != "seed"}) or "solve rate"
        for row, alive in zip(result.population.rows, result.alive, strict=True)
        if alive
    ]
    groups = dict(iter(frame.groupby(np.array(combination), sort=False)))
    table = Table("maze", *groups, title=f"held-out mazes, {ATTEMPTS} attempts each")
    for name in frame:
        table.add_row(name, *(_estimate(part[name]) for part in groups.values()))
    overall = (_estimate(part.mean(axis=1)) for part in groups.values())
    table.add_row("mean", *overall, style="bold")
    console.print(table)
    draw(groups, Path(result.out) / "held_out.png")
    say(f"held_out.csv and held_out.png are in {result.out}")
    return frame


def _estimate(rates: pd.Series) -> str:
    return str(interval(rates.to_numpy(), bounds=PROBABILITY))


def draw(groups: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Draw solve rates by maze: a bar per combination of hyperparameters, a dot per student."""
    figure = matplotlib.figure.Figure(figsize=(8, 3.5), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(groups)
    for i, (name, part) in enumerate(groups.items()):
        at = np.arange(part.shape[1]) + (i - (len(groups) - 1) / 2) * width
        axes.bar(at, part.mean(), 0.95 * width, alpha=0.5, label=name)
        for _, member in part.iterrows():
            axes.plot(at, member, "k.", ms=4)
    axes.set(ylabel="solve rate", ylim=(0, 1.05))
    axes.set_xticks(range(part.shape[1]), part.columns, rotation=45)
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    launch(Settings, build, save=report)
