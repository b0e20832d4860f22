"""The partially observable maze of the environment-design literature.

An agent turns left, turns right or steps forward until it stands on the goal, and sees the 5 x 5
cells ahead of it, through walls. This is MiniGrid's maze as PAIRED (Dennis et al. 2020,
arXiv 2012.02096), minimax and JaxUED (arXiv 2311.12716, 2403.13091) play it: 13 x 13 cells, walls
all around that take no cells, and a reward of `1 - 0.9 * steps / max_steps` at the goal. The goal
terminates an episode; the time limit truncates it.

A cell is (row, column), row 0 on top. Directions are 0 right, 1 down, 2 left, 3 up: turning right
adds one. `maze_levels.py` draws and mutates levels, `maze_solution.py` solves them, and in
`maze_editor.py` an adversary builds them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces
from numpy.typing import ArrayLike

from purejaxrl.parts.wrappers import Restarting
from purejaxrl.validation import require, require_count

SIZE = 13
MAX_STEPS = 250
DIRECTIONS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)], np.int32)
"""(row, column) steps to the right, down, to the left, up."""
ARROWS = ">v<^"
"""How a text shows the agent, by direction."""
LEGEND = {
    "agent": (230, 60, 50),
    "goal": (40, 170, 70),
    "floor": (20, 20, 20),
    "wall": (90, 90, 90),
    "floor in view": (70, 70, 70),
    "wall in view": (140, 140, 140),
}
"""Colours of a picture."""
LEFT, RIGHT, FORWARD = range(3)
NUM_PLANES = 2 + len(DIRECTIONS)


@struct.dataclass
class Level:
    """A maze. Smaller mazes are padded with walls, so that mazes of one size can be stacked."""

    walls: jax.Array  # bool [size, size]
    agent_pos: jax.Array  # int32 [2], where the agent starts
    agent_dir: jax.Array  # int32, its first direction
    goal_pos: jax.Array  # int32 [2]
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class MazeState:
    """Where the agent is."""

    agent_pos: jax.Array  # int32 [2]
    agent_dir: jax.Array  # int32
    time: jax.Array  # int32, steps since the reset


def make_level(
    walls: ArrayLike,
    agent_pos: ArrayLike,
    agent_dir: int,
    goal_pos: ArrayLike,
    max_steps: int = MAX_STEPS,
) -> Level:
    """Make a level of concrete values.

    Args:
        walls: bool `[size, size]`.
        agent_pos, goal_pos: (row, column), distinct and free.
        agent_dir: 0 right, 1 down, 2 left, 3 up.
        max_steps: time limit.

    Raises:
        ValueError: naming the field and the cell that is not valid.
    """
    level = Level(
        walls=np.asarray(walls, bool),
        agent_pos=_integers("agent_pos", agent_pos),
        agent_dir=_integers("agent_dir", agent_dir),
        goal_pos=_integers("goal_pos", goal_pos),
        max_steps_in_episode=_integers("max_steps_in_episode", max_steps),
    )
    with jax.ensure_compile_time_eval():  # concrete even inside a traced function
        return jax.tree.map(jnp.asarray, check(level))


def _integers(field: str, value: ArrayLike) -> np.ndarray:
    if not np.issubdtype(np.asarray(value).dtype, np.integer):
        raise ValueError(f"Level.{field}: {value} is not valid; it must be integer")
    return np.asarray(value, np.int32)


def check(level: Level) -> Level:
    """Return a concrete level if it is valid; it may be unsolvable.

    Raises:
        ValueError: naming the field and the cell that is not valid.
    """
    walls = np.asarray(level.walls)
    size = len(walls)
    if walls.shape != (size, size):
        raise ValueError(f"Level.walls: shape {walls.shape} is not valid; it must be square")
    for field in ("agent_pos", "goal_pos"):
        cell = tuple(np.asarray(getattr(level, field)).tolist())
        if len(cell) != 2 or not all(0 <= x < size for x in cell):
            raise ValueError(
                f"Level.{field}: {cell} is not valid; "
                f"it must be a (row, column) of the {size} x {size} grid"
            )
        if walls[cell]:
            raise ValueError(f"Level.{field}: {cell} is a wall; it must be a free cell")
    if np.array_equal(level.agent_pos, level.goal_pos):
        raise ValueError(f"Level.goal_pos: {cell} is the agent's start; it must be another cell")
    if level.agent_dir not in range(4):
        raise ValueError(f"Level.agent_dir: {level.agent_dir} is not valid; it must be 0, 1, 2, 3")
    if level.max_steps_in_episode < 1:
        raise ValueError(
            f"Level.max_steps_in_episode: {level.max_steps_in_episode} is not valid; "
            "it must be an integer >= 1"
        )
    return level


def empty(size: int = SIZE, max_steps: int = MAX_STEPS) -> Level:
    """A maze without walls, from the upper left corner, facing right, to the lower right corner."""
    return make_level(np.zeros((size, size)), (0, 0), 0, (size - 1, size - 1), max_steps)


def from_text(text: str, size: int = SIZE, max_steps: int = MAX_STEPS) -> Level:
    """Read a level from rows of `#` wall, `.` floor, `G` goal, and the agent as one of `>v<^`.

    Args:
        text: at most `size` rows and columns; missing cells become walls.
        size: rows and columns of the level.
        max_steps: time limit.

    Raises:
        ValueError: naming the row or the cell that is not valid.
    """
    rows = [row.strip() for row in text.strip().splitlines()]
    height, width = len(rows), len(rows[0]) if rows else 0
    for i, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"text: row {i} has {len(row)} cells; it must have {width}, as row 0")
    if max(height, width) > size:
        raise ValueError(f"text: {height} x {width} cells; at most {size} x {size} fit")
    grid = np.full((size, size), "#")
    grid[:height, :width] = [list(row) for row in rows]
    if unknown := _cells(~np.isin(grid, list("#.G" + ARROWS))):
        cell = unknown[0]
        raise ValueError(f"text: {str(grid[cell])!r} at {cell}; it must be one of '#.G{ARROWS}'")
    agents, goals = _cells(np.isin(grid, list(ARROWS))), _cells(grid == "G")
    for what, cells in ((f"agent (one of {ARROWS!r})", agents), ("goal ('G')", goals)):
        if len(cells) != 1:
            where = " and ".join(map(str, cells)) or "no cell"
            raise ValueError(f"text: {what} at {where}; there must be exactly one")
    agent_dir = ARROWS.index(grid[agents[0]])
    return make_level(grid == "#", agents[0], agent_dir, goals[0], max_steps)


def _cells(mask: np.ndarray) -> list[tuple[int, int]]:
    return [tuple(cell) for cell in np.argwhere(mask).tolist()]


def held_out() -> dict[str, Level]:
    """Return the standard held-out mazes by name, each padded to 13 x 13."""
    _, *blocks = Path(__file__).with_name("mazes.txt").read_text().strip().split("\n\n")
    named = (block.split("\n", 1) for block in blocks)  # the first block is a comment
    return {name: from_text(rows) for name, rows in named}


def cell_of(index: jax.Array, size: int) -> jax.Array:
    """Return the cell of an index `row * size + column`: int32 `[2]`."""
    return jnp.stack(jnp.divmod(index, size)).astype(jnp.int32)


def index_of(cell: jax.Array, size: int) -> jax.Array:
    """Return the index `row * size + column` of a cell."""
    return cell[0] * size + cell[1]


def at(grid: jax.Array, cells: jax.Array, outside: Any) -> jax.Array:
    """Return values of a grid `[size, size]` at cells `[..., 2]`: shape `[...]`."""
    return grid.at[cells[..., 0], cells[..., 1]].get(
        mode="fill", fill_value=outside, wrap_negative_indices=False
    )


def view_cells(agent_pos: jax.Array, agent_dir: jax.Array, view_size: int) -> jax.Array:
    """Return the cells that an agent sees; its own is in the middle of the last row.

    Returns:
        int32 `[view_size, view_size, 2]`; cells may lie outside the grid.
    """
    directions = jnp.asarray(DIRECTIONS)
    forward = np.arange(view_size)[::-1, None, None]
    sideways = np.arange(view_size)[None, :, None] - view_size // 2
    right = directions[(agent_dir + 1) % 4]
    return agent_pos + forward * directions[agent_dir] + sideways * right


def goal_reward(steps: jax.Array, max_steps: jax.Array) -> jax.Array:
    """Reward for reaching the goal with the `steps`-th action, float32 in [0.1, 1)."""
    return 1.0 - 0.9 * steps / max_steps


class Maze(Restarting):
    """The maze, from the student's side."""

    name = "maze"
    legend = LEGEND

    def __init__(
        self,
        sample_level: Callable[[jax.Array], Level] | None = None,
        view_size: int = 5,
    ):
        """Make an environment.

        Args:
            sample_level: draws a level from a key, such as `maze_levels.uniform(60)`. The level of
                `key(0)` is the default one. By default, a maze without walls.
            view_size: rows and columns of the agent's view.

        Raises:
            ValueError: if the view is not valid.
        """
        super().__init__()
        self.sample_level = sample_level or (lambda key: empty())
        self.view_size = view_size
        require_count(self, "view_size")
        odd = view_size >= 3 and view_size % 2 == 1
        require(odd, self, "view_size", "an odd integer >= 3, with the agent in the middle")

    @property
    def num_actions(self) -> int:
        """Turn left, turn right, step forward."""
        return 3

    @property
    def default_params(self) -> Level:
        """One of its levels."""
        return self.sample_level(jax.random.key(0))

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, MazeState]:
        """Start an episode; the key is not used."""
        return self.restart(None, params)

    def restart(self, state: MazeState | None, params: Level) -> tuple[jax.Array, MazeState]:
        """Put the agent at its start."""
        state = MazeState(params.agent_pos, params.agent_dir, jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: MazeState, action: jax.Array, params: Level):
        """Turn, or step forward unless a wall is there."""
        turn = jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
        agent_dir = (state.agent_dir + turn) % 4
        ahead = state.agent_pos + jnp.asarray(DIRECTIONS)[agent_dir]
        moves = (action == FORWARD) & ~at(params.walls, ahead, outside=True)
        agent_pos = jnp.where(moves, ahead, state.agent_pos)
        state = MazeState(agent_pos, agent_dir, state.time + 1)

        terminated = (agent_pos == params.goal_pos).all()
        reward = jnp.where(terminated, goal_reward(state.time, params.max_steps_in_episode), 0.0)
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, reward, terminated, {}

    def is_truncated(self, state: MazeState, params: Level) -> jax.Array:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def observe(self, state: MazeState, params: Level) -> jax.Array:
        """Return what the agent sees ahead, and its direction.

        Returns:
            float32 `[view_size, view_size, 6]`, each 0 or 1. A plane of the walls (cells outside
            the grid are walls) and one of the goal, as seen with the agent in the middle of the
            last row looking up. Then a constant plane for each direction: 1 for the agent's.
        """
        cells = view_cells(state.agent_pos, state.agent_dir, self.view_size)
        wall = at(params.walls, cells, outside=True)
        goal = (cells == params.goal_pos).all(-1)
        facing = jnp.broadcast_to(state.agent_dir == jnp.arange(4), (*wall.shape, 4))
        planes = jnp.concatenate([wall[..., None], goal[..., None], facing], axis=-1)
        return planes.astype(jnp.float32)

    def action_space(self, params: Level | None = None) -> spaces.Discrete:
        """0 turns left, 1 turns right, 2 steps forward."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: Level | None = None) -> spaces.Box:
        """Planes of zeros and ones."""
        return spaces.Box(0.0, 1.0, (self.view_size, self.view_size, NUM_PLANES))

    def render(self, state: MazeState, params: Level, tile: int = 16) -> np.ndarray:
        """Draw a state: uint8 `[size * tile, size * tile, 3]`.

        The agent is a triangle that points ahead; the cells in its view are lighter. `LEGEND` has
        the colours.
        """
        state, params = jax.tree.map(np.asarray, (state, params))
        cells = np.where(params.walls[..., None], LEGEND["wall"], LEGEND["floor"])
        cells[tuple(params.goal_pos)] = LEGEND["goal"]
        seen = view_cells(state.agent_pos, state.agent_dir, self.view_size).reshape(-1, 2)
        inside = ((seen >= 0) & (seen < len(cells))).all(-1)
        cells[tuple(np.asarray(seen[inside]).T)] += 50
        image = cells.astype(np.uint8).repeat(tile, axis=0).repeat(tile, axis=1)
        image[::tile], image[:, ::tile] = 60, 60

        pixel = (np.mgrid[:tile, :tile] + 0.5) / tile - 0.5  # from the middle of the agent's cell
        forward = np.tensordot(DIRECTIONS[state.agent_dir], pixel, 1)
        sideways = np.tensordot(DIRECTIONS[(state.agent_dir + 1) % 4], pixel, 1)
        triangle = (forward > -0.35) & (abs(sideways) < (0.4 - forward) / 2)
        row, column = state.agent_pos * tile
        image[row : row + tile, column : column + tile][triangle] = LEGEND["agent"]
        return image
