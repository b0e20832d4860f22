"""The grid-world in which LPG and GROOVE discover algorithms (Oh et al. 2020, Jackson et al. 2023).

An agent walks a walled grid and collects objects on contact. The type of an object sets its reward,
its probability of ending the episode, and its probability of coming back. All of this is part of
the level: a traced pytree, so that one compiled program trains agents on thousands of levels.

In one step the agent moves (walls and edges block it) and collects the object in its cell. Absent
objects respawn, except the one just collected. Then the episode terminates with the collected
object's probability. The time limit truncates. In the published code objects could respawn inside
walls, and the time limit counted as termination; here neither happens.

A cell is an index into the padded grid, `row * max_size + column`. Cells outside a smaller level
are walls. `gridworld_levels.py` draws levels, `gridworld_solution.py` solves them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces

from purejaxrl.parts.distributions import log_uniform
from purejaxrl.parts.wrappers import Restarting

LEGEND = {
    "agent": (50, 90, 220),
    "wall": (60, 60, 60),
    "reward": (100, 255, 100),
    "penalty": (255, 100, 100),
    "dark centre: may end the episode": (40, 40, 40),
}
"""Colours of a picture."""

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)], np.int32)
"""(row, column) steps of the actions up, down, left, right, no-op."""

TIME_SCALE = 0.001
"""Scale of the observed time: it is counted in thousands of steps."""


@struct.dataclass
class Level:
    """A level. The environment's `Extent` fixes the shapes."""

    walls: jax.Array  # bool [max_size, max_size]; cells outside a smaller grid are walls
    start: jax.Array  # int32, the agent's first cell
    object_cell: jax.Array  # int32 [max_objects]
    object_type: jax.Array  # int32 [max_objects]
    object_exists: jax.Array  # bool [max_objects]; False: padding
    reward: jax.Array  # float32 [num_types]
    terminate_prob: jax.Array  # float32 [num_types]
    respawn_prob: jax.Array  # float32 [num_types], per step
    offset: jax.Array  # float32, added to the reward of every step
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class GridState:
    """Where the agent and the objects are."""

    cell: jax.Array  # int32, of the agent
    object_cell: jax.Array  # int32 [max_objects]
    object_present: jax.Array  # bool [max_objects]
    time: jax.Array  # int32, steps since the reset


class Extent(NamedTuple):
    """Largest grid, most objects and most types of an environment: the shapes of its levels."""

    max_size: int
    max_objects: int
    num_types: int

    @property
    def num_cells(self) -> int:
        """Cells of the padded grid."""
        return self.max_size**2

    @property
    def num_rows(self) -> int:
        """Rows of a table with a row for each cell and each set of present objects."""
        return self.num_cells * 2**self.max_objects


def move(walls: jax.Array, cell: jax.Array, action: jax.Array) -> jax.Array:
    """Return the cell after a move, int32; a wall or the edge keeps the agent in its cell."""
    size = walls.shape[-1]
    row, column = jnp.array([cell // size, cell % size]) + jnp.asarray(MOVES)[action]
    row, column = jnp.clip(row, 0, size - 1), jnp.clip(column, 0, size - 1)
    return jnp.where(walls[row, column], cell, row * size + column)


def table_row(cell: jax.Array, present: jax.Array, num_cells: int) -> jax.Array:
    """Return the index of (agent's cell, which objects are present), int32."""
    return cell + num_cells * (present * 2 ** np.arange(present.shape[-1])).sum(-1).astype(
        jnp.int32
    )


class Observation(NamedTuple):
    """What an agent sees: a function of state and level, and the space that it maps to."""

    observe: Callable[[GridState, Level, Extent], Any]
    space: Callable[[Extent], spaces.Space]


class Tabular(NamedTuple):
    """The exact state by its row in a table, and the time."""

    row: jax.Array  # int32
    time: jax.Array  # float32, thousands of steps


def _observe_row(state: GridState, level: Level, extent: Extent) -> Tabular:
    row = table_row(state.cell, state.object_present, extent.num_cells)
    return Tabular(row, TIME_SCALE * state.time.astype(jnp.float32))


def _observe_one_hot(state: GridState, level: Level, extent: Extent) -> jax.Array:
    row, time = _observe_row(state, level, extent)
    return jnp.append(jax.nn.one_hot(row, extent.num_rows), time)


def _observe_planes(state: GridState, level: Level, extent: Extent) -> jax.Array:
    agent = jax.nn.one_hot(state.cell, extent.num_cells)
    objects = jnp.zeros((extent.num_types, extent.num_cells))
    objects = objects.at[level.object_type, state.object_cell].max(state.object_present * 1.0)
    time = TIME_SCALE * state.time.astype(jnp.float32)
    return jnp.concatenate([agent, objects.ravel(), time[None]])


def _vector(size: int) -> spaces.Box:
    return spaces.Box(0.0, jnp.inf, (size,))


OBSERVATIONS = {
    "row": Observation(
        _observe_row,
        lambda extent: spaces.Dict(
            {"row": spaces.Discrete(extent.num_rows), "time": spaces.Box(0.0, jnp.inf, ())}
        ),
    ),
    "one_hot": Observation(_observe_one_hot, lambda extent: _vector(extent.num_rows + 1)),
    "planes": Observation(
        _observe_planes, lambda extent: _vector(extent.num_cells * (1 + extent.num_types) + 1)
    ),
}
"""`row`: index of the state in a table, and the time; it determines the state unless objects move.
`one_hot`: the same as a vector. `planes`: a vector of the agent's cell, the cells of the objects of
each type, and the time; it always determines the state."""


class GridWorld(Restarting):
    """The grid-world with objects that come back where they were."""

    name = "gridworld"
    draws_per_object = 1  # random numbers per step: whether it comes back
    legend = LEGEND

    def __init__(
        self,
        sample_level: Callable[[jax.Array], Level],
        observation: Observation = OBSERVATIONS["row"],
    ):
        """Make an environment for levels of one extent.

        Args:
            sample_level: draws a level from a key, such as `LEVELS["small"].sample`. The level of
                `key(0)` is the default one.
            observation: one of `OBSERVATIONS`, or another.
        """
        super().__init__()
        self.sample_level, self.observation = sample_level, observation
        self.level = sample_level(jax.random.key(0))
        self.extent = Extent(
            self.level.walls.shape[-1],
            self.level.object_cell.shape[-1],
            self.level.reward.shape[-1],
        )

    @property
    def num_actions(self) -> int:
        """Up, down, left, right, no-op."""
        return len(MOVES)

    @property
    def default_params(self) -> Level:
        """One of its levels."""
        return self.level

    def reset_env(self, key: jax.Array, params: Level) -> tuple[Any, GridState]:
        """Start an episode; the key is not used."""
        return self.restart(None, params)

    def restart(self, state: GridState | None, params: Level) -> tuple[Any, GridState]:
        """Put the agent and all objects where the level has them."""
        state = GridState(params.start, params.object_cell, params.object_exists, jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: GridState, action: jax.Array, params: Level):
        """Move, collect, respawn, terminate."""
        max_objects = self.extent.max_objects
        ends, comes_back, place = jnp.split(
            jax.random.uniform(key, (1 + self.draws_per_object * max_objects,)),
            (1, 1 + max_objects),
        )
        cell = move(params.walls, state.cell, action)
        collected = state.object_present & (state.object_cell == cell)
        kind = params.object_type
        reward = params.offset + jnp.sum(collected * params.reward[kind])
        terminated = ends[0] < jnp.sum(collected * params.terminate_prob[kind])

        absent = params.object_exists & ~state.object_present
        respawned = absent & (comes_back < params.respawn_prob[kind])
        state = GridState(
            cell=cell,
            object_cell=self.respawn_cells(place, state, cell, respawned, params),
            object_present=(state.object_present & ~collected) | respawned,
            time=state.time + 1,
        )
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, reward, terminated, {}

    def respawn_cells(self, place, state: GridState, cell, respawned, params: Level) -> jax.Array:
        """Return the objects' cells after some have respawned: int32 `[max_objects]`."""
        return state.object_cell

    def is_truncated(self, state: GridState, params: Level) -> jax.Array:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def observe(self, state: GridState, params: Level) -> Any:
        """Return what the agent sees."""
        return self.observation.observe(state, params, self.extent)

    def action_space(self, params: Level | None = None) -> spaces.Discrete:
        """Five moves."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: Level | None = None) -> spaces.Space:
        """Space of what `observe` returns."""
        return self.observation.space(self.extent)

    def render(self, state: GridState, params: Level, tile: int = 16) -> np.ndarray:
        """Draw a state: uint8 `[max_size * tile, max_size * tile, 3]`.

        Walls are dark and the agent is a blue disc. Objects are squares: the larger a reward, the
        greener it is, and the larger a penalty, the redder. The dark centre of an object grows with
        its probability of ending the episode.
        """
        state, params = jax.tree.map(np.asarray, (state, params))
        size = self.extent.max_size
        image = np.where(params.walls[..., None], np.uint8(60), np.uint8(240))
        image = np.repeat(np.repeat(image, tile, 0), tile, 1).repeat(3, axis=2)
        image[::tile], image[:, ::tile] = 200, 200
        row, column = np.mgrid[:tile, :tile] - (tile - 1) / 2
        centre = np.maximum(abs(row), abs(column))

        def paint(cell: int, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
            top, left = tile * (cell // size), tile * (cell % size)
            image[top : top + tile, left : left + tile][mask] = colour

        for cell, kind, present in zip(
            state.object_cell, params.object_type, state.object_present, strict=True
        ):
            if present:
                worth = int(50 + 105 * np.clip(abs(params.reward[kind]), 0, 1))
                good = params.reward[kind] >= 0
                colour = (100, 100 + worth, 100) if good else (100 + worth, 100, 100)
                paint(cell, centre < 0.4 * tile, colour)
                core = 0.25 * tile * np.sqrt(params.terminate_prob[kind])
                paint(cell, centre < core, (40, 40, 40))
        paint(state.cell, row**2 + column**2 < (0.35 * tile) ** 2, LEGEND["agent"])
        return image


class MovingGridWorld(GridWorld):
    """The grid-world (`rand_*`) with objects that come back in a random free cell."""

    draws_per_object = 2  # whether and where it comes back

    def respawn_cells(self, place, state: GridState, cell, respawned, params: Level) -> jax.Array:
        """Draw a cell without wall, agent or other object for each respawned object."""
        free = ~params.walls.ravel()
        free = free.at[cell].set(False)
        standing = jnp.where(state.object_present, state.object_cell, self.extent.num_cells)
        free = free.at[standing].set(False, mode="drop")
        cells = state.object_cell
        for i in range(self.extent.max_objects):  # one after the other, so that none coincide
            drawn = _draw(place[i], free.reshape(params.walls.shape))
            cells = cells.at[i].set(jnp.where(respawned[i], drawn, cells[i]))
            free = free.at[drawn].set(free[drawn] & ~respawned[i])
        return cells


def _draw(chance: jax.Array, free: jax.Array) -> jax.Array:
    """Map a uniform number in [0, 1) to a uniform free cell: first its row, which is faster."""
    upto = np.tri(free.shape[-1], dtype=np.int32)  # a product with it is a cumulative sum
    rows = upto @ free.sum(-1)
    rank = jnp.minimum(jnp.floor(chance * rows[-1]).astype(jnp.int32), rows[-1] - 1)
    row = jnp.sum(rows <= rank)
    rank -= jnp.where(row > 0, rows[row - 1], 0)
    column = jnp.sum(upto @ free[row].astype(jnp.int32) <= rank)
    return (row * free.shape[-1] + column).astype(jnp.int32)


def sample_scaled(sample_level: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    """Draw a level, a scale for its rewards, and an offset that every step's reward gets.

    The scale is log-uniform in 0.1 … 2, the offset the scale times U(-0.1, 0.1).

    Args:
        sample_level: draws a level with the fields `reward` and `offset`.
        key: typed key.
    """
    level_key, scale_key, offset_key = jax.random.split(key, 3)
    level, scale = sample_level(level_key), log_uniform(scale_key, 0.1, 2.0)
    offset = scale * jax.random.uniform(offset_key, minval=-0.1, maxval=0.1)
    return level.replace(reward=scale * level.reward, offset=offset)
