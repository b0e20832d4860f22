"""Random mazes with all that curricula need: edits, optimum, editor and tokens."""

from envs import maze_levels, maze_solution
from envs.maze import MAX_STEPS, SIZE, Maze
from envs.maze_editor import MazeEditor
from envs.maze_tokens import MazeTokens
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.levels import Levels
from purejaxrl.ued.student import OwnLevel
from purejaxrl.validation import is_count

MOST_WALLS = 60
"""Most walls of a random maze, and edits of a teacher, in the literature."""


def mazes(
    max_walls: int = MOST_WALLS,
    size: int = SIZE,
    max_steps: int = MAX_STEPS,
    num_edits: int | None = None,
) -> Levels:
    """Return mazes of scattered walls.

    Args:
        max_walls: most walls of a random maze; their number is uniform from 0 to it.
        size: rows and columns.
        max_steps: time limit.
        num_edits: walls that a teacher toggles, and most walls of a maze in tokens; by default
            `max_walls`, or 60 where random mazes are empty.

    Raises:
        ValueError: if the walls or the edits leave no room, or the time limit is not valid.
    """
    sample = maze_levels.uniform(max_walls, size, max_steps)
    num_edits = (max_walls or MOST_WALLS) if num_edits is None else num_edits
    room = size**2 - 2
    if not is_count(num_edits) or num_edits > room:
        raise ValueError(
            f"num_edits: {num_edits} is not valid; it must be an integer from 1 to {room}"
        )
    return Levels(
        OwnLevel(FlattenObservation(Maze(sample))),
        sample,
        maze_levels.mutate,
        maze_solution.optimal_return,
        Builder(FlattenObservation(MazeEditor(size, num_edits, max_steps))),
        MazeTokens(size, num_edits, max_steps),
    )
