"""Robust prioritised level replay on mazes: PPO with memory on the mazes it has most to learn from.

python experiments/maze_plr.py
python experiments/maze_plr.py --score maxmc --hypers.replay.replay-prob 0.5,0.8
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import maze_held_out

from algos import plr
from envs import maze_levels
from purejaxrl.launch import Job, RunFlags, launch
from purejaxrl.ued.scores import SCORES
from purejaxrl.validation import require_known


@dataclass(frozen=True)
class Settings(maze_held_out.MazeExperiment):
    """Robust PLR ({score}) on mazes of up to {max_walls} walls."""

    score: str = "pvl"
    """What makes a level worth replaying: see purejaxrl/ued/scores.py."""
    capacity: int = 4000
    """Levels that the buffer has room for."""
    hypers: plr.Hypers = plr.Hypers(maze_held_out.STUDENT)
    """The student's hyperparameters, and the replay's."""
    run: RunFlags = maze_held_out.options("results/maze_plr")


def build(settings: Settings) -> Job:
    known = SCORES.keys() - {"regret"}  # a student alone has no antagonist
    require_known("score", settings.score, known)
    student, env = maze_held_out.make_student(settings)
    algorithm = plr.make(
        plr.Config(settings.student, settings.capacity),
        student,
        env,
        maze_levels.uniform(settings.max_walls),
        SCORES[settings.score],
    )
    return Job(algorithm, (), settings.num_updates)


if __name__ == "__main__":
    for outcome in launch(Settings, build):
        maze_held_out.report(outcome)
