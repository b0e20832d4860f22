"""ACCEL on mazes: PPO with memory on mazes that edits make of empty ones.

python experiments/maze_accel.py
python experiments/maze_accel.py --score maxmc --num-edits 20
"""

from purejaxrl.devices import use_cpu_cores

use_cpu_cores()

import functools
from dataclasses import dataclass

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
        edit(settings.num_edits),
        SCORES[settings.score],
    )
    return Job(algorithm, (), settings.num_updates)


def edit(num_edits: int):
    """A mutation of so many edits."""

    @functools.wraps(maze_levels.mutate)
    def mutate(key, level):
        return maze_levels.mutate(key, level, num_edits)

    mutate.__qualname__ = f"mutate({num_edits})"
    return mutate


if __name__ == "__main__":
    for outcome in launch(Settings, build):
        maze_held_out.report(outcome)
