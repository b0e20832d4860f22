"""ACCEL on mazes: PPO with memory on mazes that evolve by edits, from empty ones.

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
from purejaxrl.validation import require_choice, require_count


@dataclass(frozen=True)
class Settings(maze_held_out.MazeExperiment):
    """Settings of ACCEL."""

    score: str = "pvl"
    """Score by which levels are kept and replayed: see purejaxrl/ued/scores.py."""
    num_edits: int = 5
    """Edits of a level after its replay."""
    max_walls: int = 0
    """Most walls of a new maze; by default it is empty, as in the paper."""
    learner: accel.Config = accel.Config()
    """Static settings of the replay."""
    hypers: accel.Hypers = accel.hypers(maze_held_out.STUDENT)
    """The student's hyperparameters, and the replay's."""
    run: RunFlags = maze_held_out.options("results/maze_accel")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"ACCEL ({self.score}) on mazes, {self.num_edits} edits at a time"


def build(settings: Settings) -> Job:
    require_count(settings, "num_edits")
    require_choice(settings, "score", maze_held_out.SCORES_OF_STUDENTS)
    student, env = maze_held_out.make_student(settings)
    algorithm = accel.make(
        settings.learner,
        student,
        env,
        maze_levels.uniform(settings.max_walls),
        partial(maze_levels.mutate, num_edits=settings.num_edits),
        SCORES[settings.score],
    )
    return maze_held_out.make_job(algorithm, settings)


if __name__ == "__main__":
    launch(Settings, build, save=maze_held_out.report)
