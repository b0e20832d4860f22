"""Random mazes with all that curricula need: edits, optimum, editor and tokens."""

from envs import maze_levels, maze_solution
from envs.maze import MAX_STEPS, SIZE, Maze
from envs.maze_editor import MazeEditor
from envs.maze_tokens import MazeTokens
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.levels import Levels
from purejaxrl.ued.student import OwnLevel


def mazes(
    max_walls: int = 60, size: int = SIZE, max_steps: int = MAX_STEPS, num_edits: int = 60
) -> Levels:
    """Return mazes of scattered walls.

    Args:
        max_walls: of a random maze, whose number of walls is uniform up to it.
        size: rows and columns.
        max_steps: time limit.
        num_edits: walls that a teacher toggles, and most walls of a maze in tokens.

    Raises:
        ValueError: if the walls leave no room.
    """
    sample = maze_levels.uniform(max_walls, size, max_steps)
    return Levels(
        OwnLevel(FlattenObservation(Maze(sample))),
        sample,
        maze_levels.mutate,
        maze_solution.optimal_return,
        Builder(FlattenObservation(MazeEditor(size, num_edits, max_steps))),
        MazeTokens(size, num_edits, max_steps),
    )
