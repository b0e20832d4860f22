"""Robust prioritised level replay on mazes: PPO with memory on the mazes of the highest scores.

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
from purejaxrl.validation import require_choice


@dataclass(frozen=True)
class Settings(maze_held_out.MazeExperiment):
    """Settings of robust PLR."""

    score: str = "pvl"
    """Score by which levels are kept and replayed: see purejaxrl/ued/scores.py."""
    learner: plr.Config = plr.Config()
    """Static settings of the replay."""
    hypers: plr.Hypers = plr.Hypers(maze_held_out.STUDENT)
    """The student's hyperparameters, and the replay's."""
    run: RunFlags = maze_held_out.options("results/maze_plr")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"Robust PLR ({self.score}) on mazes of up to {self.max_walls} walls"


def build(settings: Settings) -> Job:
    require_choice(settings, "score", maze_held_out.SCORES_OF_STUDENTS)
    student, env = maze_held_out.make_student(settings)
    algorithm = plr.make(
        settings.learner,
        student,
        env,
        maze_levels.uniform(settings.max_walls),
        SCORES[settings.score],
    )
    return maze_held_out.make_job(algorithm, settings)


if __name__ == "__main__":
    launch(Settings, build, save=maze_held_out.report)
