"""Levels of the grid-world: the handcrafted ones, and distributions over them.

They follow LPG, GROOVE and TA-LPG (arXiv 2007.08794, 2310.02782, 2402.05828). The start and the
objects are on distinct free cells, drawn anew for every sampled level, even a handcrafted one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.gridworld import Extent, Level, sample_scaled
from envs.maze import held_out
from purejaxrl.parts.distributions import log_uniform, log_uniform_int

SampleLevel = Callable[[jax.Array], Level]
"""Draws a level from a typed key."""


class Levels(NamedTuple):
    """A distribution over levels of one extent."""

    extent: Extent
    sample: SampleLevel
    lifetime: tuple[int, int]  # least and most agent updates in a life, log-uniform
    moving: bool = False  # whether objects come back in random cells (`MovingGridWorld`)

    def sample_lifetime(self, key: jax.Array) -> jax.Array:
        """Draw the length of an agent's life on such a level: int32, in updates."""
        return log_uniform_int(key, *self.lifetime)


def _distinct_free_cells(key: jax.Array, walls: jax.Array, count: int) -> jax.Array:
    """Draw cells that are not walls, without replacement: int32 `[count]`."""
    score = jnp.where(walls.ravel(), -1.0, jax.random.uniform(key, (walls.size,)))
    return jax.lax.top_k(score, count)[1]


def _open_grid(size: int) -> np.ndarray:
    return np.zeros((size, size), bool)


class Handcrafted(NamedTuple):
    """One of the named levels, before its start and objects are drawn."""

    walls: np.ndarray
    kinds: tuple[int, ...]  # the type of each object
    reward: tuple[float, ...]  # by type
    terminate_prob: tuple[float, ...]  # by type
    respawn_prob: tuple[float, ...]  # by type
    max_steps: int

    @property
    def extent(self) -> Extent:
        """The smallest shapes that hold it."""
        return Extent(len(self.walls), len(self.kinds), len(self.reward))

    def sample(self, key: jax.Array, extent: Extent | None = None) -> Level:
        """Draw the start and the objects' cells; padded to an extent, by default its own."""
        max_size, max_objects, num_types = extent or self.extent
        outside = max_size - len(self.walls)
        walls = jnp.asarray(np.pad(self.walls, (0, outside), constant_values=True))
        cells = _distinct_free_cells(key, walls, 1 + max_objects)
        return Level(
            walls=walls,
            start=cells[0],
            object_cell=cells[1:],
            object_type=_padded(self.kinds, max_objects, np.int32),
            object_exists=jnp.arange(max_objects) < len(self.kinds),
            reward=_padded(self.reward, num_types),
            terminate_prob=_padded(self.terminate_prob, num_types),
            respawn_prob=_padded(self.respawn_prob, num_types),
            offset=jnp.float32(0),
            max_steps_in_episode=jnp.int32(self.max_steps),
        )


def _padded(values: Sequence[float], length: int, dtype: type = np.float32) -> jax.Array:
    return jnp.asarray(np.pad(np.asarray(values, dtype), (0, length - len(values))))


def _longer_walls() -> np.ndarray:
    walls = _open_grid(9)
    walls[:, 4] = True
    walls[[1, 7], 4] = False
    return walls


def _long_dense_walls() -> np.ndarray:
    walls = _open_grid(11)
    walls[:, 5] = True
    walls[[0, 7], 5] = False
    walls[4] = True
    walls[4, [2, 8]] = False
    return walls


_SMALL_WALLS = np.isin(np.arange(49), (9, 25)).reshape(7, 7)
_DENSE = Handcrafted(_open_grid(11), (0, 0, 1, 2), (1, -1, -1), (0, 0.5, 0), (0.05, 0.1, 0.5), 500)
_LONG = Handcrafted(_open_grid(11), (0, 0, 1, 1), (1, -1), (0, 0.5), (0.01, 1), 1000)

TABULAR = {
    "dense": _DENSE,
    "sparse": Handcrafted(_open_grid(13), (0, 1), (1, -1), (1, 1), (0, 0), 50),
    "long": _LONG,
    # LPG's paper has seven objects; five keep the table small.
    "longer": Handcrafted(_longer_walls(), (0, 0, 1, 1, 1), (1, -1), (0.1, 0.8), (0.01, 1), 2000),
    "long_dense": Handcrafted(_long_dense_walls(), (0, 0, 0, 0), (1,), (0,), (0.005,), 2000),
}
"""The handcrafted levels whose objects come back where they were."""

MOVING = {
    "rand_dense": _DENSE,
    "rand_long": _LONG,
    "rand_small": Handcrafted(_SMALL_WALLS, (0, 0, 1, 1), (1, -1), (0, 0.5), (0.05, 0.1), 500),
    "rand_sparse": Handcrafted(_open_grid(7), (0, 1, 1), (1, -1), (1, 1), (1, 1), 50),
    "rand_very_dense": Handcrafted(_open_grid(11), (0,), (1,), (0,), (1,), 2000),
}
"""The handcrafted levels whose objects come back in random cells."""


def _tabular(key: jax.Array) -> Level:
    """Draw one of the five tabular levels."""
    which, cells = jax.random.split(key)
    extent = _common([level.extent for level in TABULAR.values()])
    draw = [lambda key, level=level: level.sample(key, extent) for level in TABULAR.values()]
    return jax.lax.switch(jax.random.randint(which, (), 0, len(draw)), draw, cells)


def _common(extents: Sequence[Extent]) -> Extent:
    return Extent(*(max(numbers) for numbers in zip(*extents, strict=True)))


class Random(NamedTuple):
    """A distribution over sizes, walls, objects and their types; object i has type i."""

    max_steps: tuple[int, int]  # log-uniform
    num_objects: tuple[int, int]  # uniform
    size: tuple[int, int]  # uniform
    num_walls: int  # drawn on the padded grid without replacement, so small grids get few

    @property
    def extent(self) -> Extent:
        """The smallest shapes that hold every level."""
        return Extent(self.size[1], self.num_objects[1], self.num_objects[1])

    def sample(self, key: jax.Array) -> Level:
        """Draw a level."""
        keys = jax.random.split(key, 5)
        max_size, max_objects, num_types = self.extent
        size = jax.random.randint(keys[0], (), self.size[0], self.size[1] + 1)
        inside = jnp.arange(max_size) < size
        floor = (inside[:, None] & inside).ravel()
        scores = jax.random.uniform(keys[1], (max_size**2,))
        drawn = jax.lax.top_k(scores, self.num_walls)[1]
        # Leave room for the agent and every object, however small the grid.
        room = size**2 - 1 - max_objects
        kept = jnp.cumsum(floor[drawn]) <= room
        walls = ~floor.at[drawn].min(~kept).reshape(max_size, max_size)
        count = jax.random.randint(keys[2], (), self.num_objects[0], self.num_objects[1] + 1)
        return _with_objects(keys[3], keys[4], walls, count, num_types, self.max_steps, -1.0)


def _with_objects(
    cells_key: jax.Array,
    types_key: jax.Array,
    walls: jax.Array,
    count: jax.Array,
    num_types: int,
    max_steps: tuple[int, int],
    least_reward: float,
) -> Level:
    """Put `count` objects of as many types on a grid; the first has a reward of at least 0."""
    reward_key, terminate_key, respawn_key, steps_key = jax.random.split(types_key, 4)
    cells = _distinct_free_cells(cells_key, walls, 1 + num_types)
    low = jnp.full(num_types, least_reward).at[0].set(0.0)
    return Level(
        walls=walls,
        start=cells[0],
        object_cell=cells[1:],
        object_type=jnp.arange(num_types),
        object_exists=jnp.arange(num_types) < count,
        reward=jax.random.uniform(reward_key, (num_types,), minval=low, maxval=1.0),
        terminate_prob=log_uniform(terminate_key, 0.01, 1.0, (num_types,)),
        respawn_prob=log_uniform(respawn_key, 0.001, 0.1, (num_types,)),
        offset=jnp.float32(0),
        max_steps_in_episode=log_uniform_int(steps_key, *max_steps),
    )


SMALL_CORRIDOR = """
.............
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.###########.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.#.#.#.#.#.#.
.............
"""


def _maze_walls() -> np.ndarray:
    """Return the walls of the standard mazes and of SmallCorridor: bool `[9, 13, 13]`."""
    maps = [np.asarray(m.walls) for name, m in held_out().items() if "Trivial" not in name]
    corridor = [[letter == "#" for letter in row] for row in SMALL_CORRIDOR.split()]
    return np.array([*maps, corridor])


def _mazes(key: jax.Array) -> Level:
    """Draw three rewarding objects in a standard maze."""
    which_key, cells_key, types_key = jax.random.split(key, 3)
    maps = _maze_walls()
    walls = jnp.asarray(maps)[jax.random.randint(which_key, (), 0, len(maps))]
    return _with_objects(cells_key, types_key, walls, jnp.int32(3), 3, (25, 50), 0.0)


_SMALL = Random((20, 100), (1, 3), (4, 6), 7)
_MEDIUM = Random((100, 250), (2, 4), (6, 8), 10)
_LARGE = Random((250, 750), (2, 5), (8, 10), 15)
_ALL = Random((20, 750), (1, 5), (4, 10), 15)

LEVELS: dict[str, Levels] = {
    **{name: Levels(level.extent, level.sample, (2500, 2500)) for name, level in TABULAR.items()},
    **{
        name: Levels(level.extent, level.sample, (25_000, 25_000), moving=True)
        for name, level in MOVING.items()
    },
    "tabular": Levels(_common([x.extent for x in TABULAR.values()]), _tabular, (2500, 2500)),
    "small": Levels(_SMALL.extent, _SMALL.sample, (250, 250)),
    "medium": Levels(_MEDIUM.extent, _MEDIUM.sample, (1000, 1000)),
    "large": Levels(_LARGE.extent, _LARGE.sample, (2500, 2500)),
    "all": Levels(_ALL.extent, _ALL.sample, (1000, 1000)),
    "all_shortlife": Levels(_ALL.extent, _ALL.sample, (250, 250)),
    "all_randlife": Levels(_ALL.extent, _ALL.sample, (50, 250)),
    "all_vrandlife": Levels(_ALL.extent, _ALL.sample, (10, 250)),
    "all_scaled": Levels(_ALL.extent, partial(sample_scaled, _ALL.sample), (250, 250)),
    "rand_all": Levels(_ALL.extent, _ALL.sample, (25_000, 25_000), moving=True),
    "mazes": Levels(Extent(13, 3, 3), _mazes, (2500, 2500)),
}
"""The levels and distributions of the literature by name."""
