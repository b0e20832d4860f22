"""Write mazes as text."""

import numpy as np

from envs.maze import ARROWS, Level


def to_text(level: Level) -> str:
    """Write a level as `from_text` reads it, with the padding and without the time limit."""
    grid = np.where(level.walls, "#", ".")
    grid[tuple(level.goal_pos)] = "G"
    grid[tuple(level.agent_pos)] = ARROWS[level.agent_dir]
    return "\n".join(map("".join, grid))
