"""Mazes drawn at random, and mutated.

A sampler is a pure function `sample(key) -> Level`: jit it, vmap it over keys. Every level is
valid (agent and goal on distinct free cells); only perfect mazes are all solvable.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from envs.maze import DIRECTIONS, MAX_STEPS, SIZE, Level, at, cell_of
from purejaxrl.validation import COUNT, is_count

Sampler = Callable[[jax.Array], Level]


def uniform(max_walls: int, size: int = SIZE, max_steps: int = MAX_STEPS) -> Sampler:
    """Mazes of scattered walls, the "domain randomisation" of PAIRED, PLR and ACCEL.

    The number of walls is uniform from 0 to `max_walls`, both included; their cells, the agent's
    and the goal's are drawn without replacement, and the agent's direction is uniform.

    Args:
        max_walls: 25 or 60 in the literature.
        size: rows and columns of the grid.
        max_steps: time limit.

    Raises:
        ValueError: if so many walls leave no room for the agent and the goal, or the time limit is
            not valid.
    """
    room = size**2 - 2
    if not isinstance(max_walls, int) or not 0 <= max_walls <= room:
        raise ValueError(
            f"max_walls: {max_walls} is not valid; it must be an integer from 0 to {room}"
        )
    _require_limit(max_steps)

    def sample(key: jax.Array) -> Level:
        cells_key, counts_key = jax.random.split(key)
        cells = jax.lax.top_k(jax.random.uniform(cells_key, (size**2,)), 2 + max_walls)[1]
        below = jnp.array([max_walls + 1, len(DIRECTIONS)])
        num_walls, agent_dir = jax.random.randint(counts_key, (2,), 0, below)
        walls = jnp.zeros(size**2, bool).at[cells[2:]].set(jnp.arange(max_walls) < num_walls)
        return Level(
            walls=walls.reshape(size, size),
            agent_pos=cell_of(cells[0], size),
            agent_dir=agent_dir,
            goal_pos=cell_of(cells[1], size),
            max_steps_in_episode=jnp.int32(max_steps),
        )

    return sample


def perfect(size: int = SIZE, max_steps: int = MAX_STEPS) -> Sampler:
    """Perfect mazes (Jiang et al. 2021, arXiv 2110.02439): one path between any two free cells.

    Agent and goal are on uniformly drawn distinct free cells, the agent's direction is uniform.

    Args:
        size: rows and columns of the grid; if it is even, the last row and column are walls.
        max_steps: time limit.

    Raises:
        ValueError: if the grid is too small for two free cells, or the time limit is not valid.
    """
    if not isinstance(size, int) or size < 3:
        raise ValueError(f"size: {size} is not valid; it must be an integer >= 3")
    _require_limit(max_steps)
    num_rooms = (size + 1) // 2  # in a row

    def sample(key: jax.Array) -> Level:
        walls_key, start_key, cells_key = jax.random.split(key, 3)
        below = jnp.array([num_rooms, num_rooms, len(DIRECTIONS)])
        *start, agent_dir = jax.random.randint(start_key, (3,), 0, below)
        walls = _spanning_tree(walls_key, 2 * jnp.stack(start), size)
        scores = jnp.where(walls.ravel(), -1.0, jax.random.uniform(cells_key, (size**2,)))
        agent, goal = jax.lax.top_k(scores, 2)[1]
        return Level(
            walls=walls,
            agent_pos=cell_of(agent, size),
            agent_dir=agent_dir,
            goal_pos=cell_of(goal, size),
            max_steps_in_episode=jnp.int32(max_steps),
        )

    return sample


def _require_limit(max_steps: int) -> None:
    if not is_count(max_steps):
        raise ValueError(f"max_steps: {max_steps} is not valid; it must be {COUNT}")


def _spanning_tree(key: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Carve a spanning tree of the rooms, which are the cells with even row and column.

    A randomised depth-first search: enter a random neighbour that is still wall, or go back.

    Returns:
        Walls, bool `[size, size]`.
    """
    num_steps = 2 * (((size + 1) // 2) ** 2 - 1)  # every room but the first is entered and left
    directions = jnp.asarray(DIRECTIONS)

    def step(carry, chance):
        walls, came_from, room = carry
        neighbours = room + 2 * directions
        new = at(walls, neighbours, outside=False)
        way = jnp.argmax(jnp.where(new, chance, -1.0))
        entered, advance = neighbours[way], new.any()
        walls = walls.at[tuple(room + directions[way])].min(~advance)
        walls = walls.at[tuple(entered)].min(~advance)
        back = came_from[tuple(room)]
        came_from = came_from.at[tuple(entered)].set(
            jnp.where(advance, room, came_from[tuple(entered)])
        )
        return (walls, came_from, jnp.where(advance, entered, back)), None

    walls = jnp.ones((size, size), bool).at[tuple(start)].set(False)
    came_from = jnp.zeros((size, size, 2), jnp.int32)
    chances = jax.random.uniform(key, (num_steps, len(DIRECTIONS)))
    (walls, _, _), _ = jax.lax.scan(step, (walls, came_from, start), chances)
    return walls


def mutate(key: jax.Array, level: Level, num_edits: int | jax.Array) -> Level:
    """Edit a level at random, as ACCEL does (Parker-Holder et al. 2022, arXiv 2203.01302).

    An edit draws a cell without agent and goal. With probability 1/2 it toggles the cell's wall,
    with 1/4 it moves the goal there, and with 1/4 the agent, with a new direction; the cell's wall
    is then removed. So every edit changes something, and levels stay valid. In JaxUED, too, half of
    the edits are to walls, but an edit may add a wall that exists, or displace an agent. Padding is
    edited like other walls.

    Args:
        key: typed key.
        level: a valid level of more than two cells.
        num_edits: number of edits, traced or not.
    """
    size = level.walls.shape[-1]
    below = jnp.array([size**2 - 2, 4, len(DIRECTIONS)])

    def edit(i: jax.Array, level: Level) -> Level:
        index, kind, direction = jax.random.randint(jax.random.fold_in(key, i), (3,), 0, below)
        taken = jnp.stack([level.agent_pos, level.goal_pos]) @ jnp.array([size, 1])
        index += index >= taken.min()  # in this order: skip the lower one, then the upper one
        index += index >= taken.max()
        cell = cell_of(index, size)

        moves_goal, moves_agent = kind == 0, kind == 1
        toggled = ~level.walls[tuple(cell)] & ~moves_goal & ~moves_agent
        return level.replace(
            walls=level.walls.at[tuple(cell)].set(toggled),
            goal_pos=jnp.where(moves_goal, cell, level.goal_pos),
            agent_pos=jnp.where(moves_agent, cell, level.agent_pos),
            agent_dir=jnp.where(moves_agent, direction, level.agent_dir),
        )

    return jax.lax.fori_loop(0, num_edits, edit, level)
