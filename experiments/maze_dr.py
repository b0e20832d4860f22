"""Domain randomisation on mazes: PPO with memory on new random mazes at every update.

python experiments/maze_dr.py
python experiments/maze_dr.py --max-walls 25 --total-steps 2e7 --hypers.learning-rate 3e-4,1e-3
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import maze_held_out

from algos import domain_randomization, ppo
from envs import maze_levels
from purejaxrl.launch import Job, RunFlags, launch


@dataclass(frozen=True)
class Settings(maze_held_out.MazeExperiment):
    """Settings of domain randomisation."""

    hypers: ppo.Hypers = maze_held_out.STUDENT
    """The student's hyperparameters."""
    run: RunFlags = maze_held_out.options("results/maze_dr")

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return f"Domain randomisation on mazes of up to {self.max_walls} walls"


def build(settings: Settings) -> Job:
    student, env = maze_held_out.make_student(settings)
    sample_level = maze_levels.uniform(settings.max_walls)
    algorithm = domain_randomization.make(student, env, sample_level)
    return maze_held_out.make_job(algorithm, settings)


if __name__ == "__main__":
    launch(Settings, build, save=maze_held_out.report)
