"""ACCEL on mazes: PPO with memory on mazes that edits make of empty ones.

python experiments/maze_accel.py
python experiments/maze_accel.py --score maxmc --num-edits 20
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from functools import partial

import maze_held_out

from algos import accel
from envs import maze_levels
from purejaxrl.launch import Job, RunFlags, launch
from purejaxrl.ued.scores import SCORES
from purejaxrl.validation import require_known


@dataclass(frozen=True)
class Settings(maze_held_out.MazeExperiment):
    """ACCEL ({score}), {num_edits} edits at a time."""

    score: str = "pvl"
    """What makes a level worth replaying: see purejaxrl/ued/scores.py."""
    num_edits: int = 5
    """Edits of a level that was replayed."""
    max_walls: int = 0
    """Walls of a new maze, at most; by default they are empty, as in the paper."""
    capacity: int = 4000
    """Levels that the buffer has room for."""
    hypers: accel.Hypers = accel.hypers(maze_held_out.STUDENT)
    """The student's hyperparameters, and the replay's."""
    run: RunFlags = maze_held_out.options("results/maze_accel")


def build(settings: Settings) -> Job:
    known = SCORES.keys() - {"regret"}  # a student alone has no antagonist
    require_known("score", settings.score, known)
    student, env = maze_held_out.make_student(settings)
    algorithm = accel.make(
        accel.Config(settings.student, settings.capacity),
        student,
        env,
        maze_levels.uniform(settings.max_walls),
        partial(maze_levels.mutate, num_edits=settings.num_edits),
        SCORES[settings.score],
    )
    return Job(algorithm, (), settings.num_updates)


if __name__ == "__main__":
    for outcome in launch(Settings, build):
        maze_held_out.report(outcome)
