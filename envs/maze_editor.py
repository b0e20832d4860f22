"""The maze from the adversary's side: an environment in which a level is built step by step.

PAIRED's adversary (Dennis et al. 2020, arXiv 2012.02096), with the steps of JaxUED's (Coward et
al. 2024, arXiv 2403.13091). An action is always a cell's index, `row * size + column`, and the
time decides what it means:

0. the goal goes to the cell;
1. the agent faces the direction `action % 4`;
2. the agent goes to the cell, or if the goal is there to a random other one;
3. from then on the cell's wall is toggled, unless the agent or the goal is there.

A wall is removed where the goal or the agent goes. If the goal goes to the agent's cell, the agent
goes to where the goal was. So the level is valid after every step. The observation says which
actions are legal: those that mean a direction, and cells that are not taken.

Building takes a fixed number of steps and then terminates, because no later value exists to
bootstrap from. It is never truncated. Rewards are 0, because the value of a level depends on how
students do on it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from envs.maze import DIRECTIONS, MAX_STEPS, SIZE, Level, cell_of, empty, index_of
from purejaxrl.parts.networks import MaskedDiscrete
from purejaxrl.parts.wrappers import Restarting
from purejaxrl.validation import require, require_count

NUM_STAGES = 4
NUM_FACTS = len(DIRECTIONS) + NUM_STAGES + 1


class Blueprint(NamedTuple):
    """What is observed: the whole level, what the next action means, and what is legal."""

    grid: jax.Array  # float32 [size, size, 3], walls, goal and agent: 0 before they are placed
    facts: jax.Array  # float32 [9], direction (4), next action's meaning (4), share of steps done
    legal: jax.Array  # float32 [size ** 2], 1 for the actions that are legal


@struct.dataclass
class EditorParams:
    """The level that is edited, and the number of edits."""

    level: Level  # the first level; the finished level keeps its time limit
    max_steps_in_episode: jax.Array  # int32, at least 3, which place goal and agent


@struct.dataclass
class EditorState:
    """The level so far."""

    level: Level
    time: jax.Array  # int32, steps since the reset


class MazeEditor(Restarting):
    """An environment whose episodes build mazes; `info["level"]` is the level after the step."""

    name = "maze_editor"

    def __init__(self, size: int = SIZE, num_walls: int = 25, max_steps: int = MAX_STEPS):
        """Make an environment.

        Args:
            size: rows and columns of the mazes.
            num_walls: walls toggled in the default level.
            max_steps: the student's time limit in the default level.

        Raises:
            ValueError: if a setting is not valid.
        """
        super().__init__()
        self.size, self.num_walls, self.max_steps = size, num_walls, max_steps
        require_count(self, "size", "max_steps")
        require(size >= 2, self, "size", "an integer >= 2")
        valid = isinstance(num_walls, int) and num_walls >= 0
        require(valid, self, "num_walls", "an integer >= 0")

    @property
    def num_actions(self) -> int:
        """One action for each cell."""
        return self.size**2

    @property
    def default_params(self) -> EditorParams:
        """Start without walls."""
        num_steps = jnp.int32(NUM_STAGES - 1 + self.num_walls)
        return EditorParams(empty(self.size, self.max_steps), num_steps)

    def reset_env(self, key: jax.Array, params: EditorParams) -> tuple[Blueprint, EditorState]:
        """Start an episode; the key is not used."""
        return self.restart(None, params)

    def restart(
        self, state: EditorState | None, params: EditorParams
    ) -> tuple[Blueprint, EditorState]:
        """Start with the first level."""
        state = EditorState(params.level, jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: EditorState, action: jax.Array, params: EditorParams):
        """Edit the level."""
        level = jax.lax.switch(
            jnp.minimum(state.time, NUM_STAGES - 1),
            [_place_goal, _turn_agent, _place_agent, _toggle_wall],
            *(key, state.level, cell_of(action, self.size)),
        )
        state = EditorState(level, state.time + 1)
        terminated = state.time >= params.max_steps_in_episode
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, jnp.float32(0), terminated, {"level": state.level}

    def is_truncated(self, state: EditorState, params: EditorParams) -> jax.Array:
        """Never: the last step terminates."""
        return jnp.bool_(False)

    def observe(self, state: EditorState, params: EditorParams) -> Blueprint:
        """Return the level and what the next action means: goal, direction, agent or wall."""
        level, time = state.level, state.time
        rows, columns = jnp.indices(level.walls.shape)
        goal = (rows == level.goal_pos[0]) & (columns == level.goal_pos[1]) & (time > 0)
        agent = (rows == level.agent_pos[0]) & (columns == level.agent_pos[1]) & (time > 2)
        stage = jnp.minimum(time, NUM_STAGES - 1)
        facts = [
            level.agent_dir == jnp.arange(len(DIRECTIONS)),
            stage == jnp.arange(NUM_STAGES),
            time[None] / params.max_steps_in_episode,
        ]
        is_direction = jnp.arange(level.walls.size) < len(DIRECTIONS)
        legal = jnp.where(time == 1, is_direction, ~(goal | agent).ravel())
        grid = jnp.stack([level.walls, goal, agent], axis=-1)
        blueprint = Blueprint(grid, jnp.concatenate(facts), legal)
        return jax.tree.map(lambda x: x.astype(jnp.float32), blueprint)

    def action_space(self, params: EditorParams | None = None) -> MaskedDiscrete:
        """Cells, `row * size + column`, of which some are taken."""
        return MaskedDiscrete(self.num_actions)

    def observation_space(self, params: EditorParams | None = None) -> spaces.Dict:
        """Numbers in [0, 1]: the fields of a `Blueprint`."""
        grid, facts = spaces.Box(0.0, 1.0, (self.size, self.size, 3)), (NUM_FACTS,)
        legal = spaces.Box(0.0, 1.0, (self.num_actions,))
        return spaces.Dict({"grid": grid, "facts": spaces.Box(0.0, 1.0, facts), "legal": legal})


def _place_goal(key: jax.Array, level: Level, cell: jax.Array) -> Level:
    on_agent = (cell == level.agent_pos).all()
    return level.replace(
        walls=level.walls.at[tuple(cell)].set(False),
        goal_pos=cell,
        agent_pos=jnp.where(on_agent, level.goal_pos, level.agent_pos),
    )


def _turn_agent(key: jax.Array, level: Level, cell: jax.Array) -> Level:
    index = index_of(cell, level.walls.shape[-1])
    return level.replace(agent_dir=index % len(DIRECTIONS))


def _place_agent(key: jax.Array, level: Level, cell: jax.Array) -> Level:
    size = level.walls.shape[-1]
    other = jax.random.randint(key, (), 0, size**2 - 1)
    other += other >= index_of(level.goal_pos, size)  # uniform over all cells but the goal's
    on_goal = (cell == level.goal_pos).all()
    cell = jnp.where(on_goal, cell_of(other, size), cell)
    return level.replace(walls=level.walls.at[tuple(cell)].set(False), agent_pos=cell)


def _toggle_wall(key: jax.Array, level: Level, cell: jax.Array) -> Level:
    taken = (cell == level.agent_pos).all() | (cell == level.goal_pos).all()
    return level.replace(walls=level.walls.at[tuple(cell)].set(~level.walls[tuple(cell)] & ~taken))
