"""Mazes as sequences of tokens, for models of sequences (CLUTR, arXiv 2210.10243).

The walls come first, in order, so that a maze is one sequence and not one of many: without the
order, each of 30 walls could come first. Then come the goal, the agent, and its direction.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from envs.maze import DIRECTIONS, MAX_STEPS, SIZE, Level, cell_of, index_of
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class MazeTokens:
    """How mazes of one size are written as tokens `[length]`.

    The token of a cell is `row * size + column`. The token `size ** 2` stands for no wall.
    """

    size: int = SIZE
    """Rows and columns."""
    max_walls: int = 60
    """Most walls of a maze."""
    max_steps: int = MAX_STEPS
    """Time limit of the mazes that are read from tokens."""

    def __post_init__(self):
        require_count(self, "size", "max_walls", "max_steps")
        require(self.size >= 2, self, "size", "an integer >= 2")
        room = self.size**2 - 2
        require(self.max_walls <= room, self, "max_walls", f"at most {room}: agent and goal")

    @property
    def length(self) -> int:
        """Tokens of a maze."""
        return self.max_walls + 3

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return self.size**2 + 1

    def write(self, level: Level) -> jax.Array:
        """Write a maze as tokens, int32 `[length]`; walls beyond `max_walls` are left out."""
        none = self.size**2
        cells = jnp.where(level.walls.ravel(), jnp.arange(none), none)
        walls = jnp.sort(cells)[: self.max_walls]
        goal, agent = (index_of(cell, self.size) for cell in (level.goal_pos, level.agent_pos))
        places = jnp.stack([goal, agent, level.agent_dir])
        return jnp.concatenate([walls, places]).astype(jnp.int32)

    def read(self, tokens: jax.Array) -> Level:
        """Read a maze from tokens that are `allowed`; it is valid, if perhaps not solvable.

        If the agent's cell is the goal's, the agent goes to the next cell. Walls at their cells are
        removed.
        """
        *_, goal, agent, direction = tokens
        agent = jnp.where(agent == goal, (agent + 1) % self.size**2, agent)
        walls = jnp.zeros(self.size**2, bool).at[tokens[:-3]].set(True, mode="drop")
        walls = walls.at[jnp.stack([goal, agent])].set(False)
        return Level(
            walls=walls.reshape(self.size, self.size),
            agent_pos=cell_of(agent, self.size),
            agent_dir=direction.astype(jnp.int32),
            goal_pos=cell_of(goal, self.size),
            max_steps_in_episode=jnp.int32(self.max_steps),
        )

    def allowed(self) -> np.ndarray:
        """Say which tokens are allowed in which place, bool `[length, vocabulary]`."""
        cells, tokens = self.size**2, np.arange(self.vocabulary)
        places = [tokens < cells, tokens < cells, tokens < len(DIRECTIONS)]
        return np.stack([*[tokens <= cells] * self.max_walls, *places])


def wall_f1(found: jax.Array, walls: jax.Array) -> jax.Array:
    """Compute the F1 score of walls, float32 `[]`, over mazes `[..., size, size]` together."""
    both = (found & walls).sum()
    return 2 * both / jnp.maximum(found.sum() + walls.sum(), 1)
