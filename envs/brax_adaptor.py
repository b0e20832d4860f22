"""Brax's environments on the gymnax 1.x interface.

Brax's own wrappers mark truncation but lose the final observation. Here an episode's end is
`terminated` (the body fell) or `truncated` (time is up), and `final_observation` is the body's,
not the reset one's.
"""

from typing import Any

import brax.envs
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from purejaxrl.parts.wrappers import Restarting


@struct.dataclass
class BraxState:
    """The simulation, where its episodes start, and steps in this one (int32)."""

    brax: brax.envs.State
    start: brax.envs.State
    time: jax.Array


@struct.dataclass
class BraxParams:
    """The time limit, in steps."""

    max_steps_in_episode: int = 1000


class BraxEnvironment(Restarting):
    """A Brax task.

    A reset of the simulation costs many steps, so an environment returns to the state of its
    first reset (as Brax's own auto-reset does); different environments start differently.
    """

    def __init__(self, task: str, backend: str = "spring", **settings: Any):
        """Make a task.

        Args:
            task: Brax's name for it, such as "ant".
            backend: physics: "generalized", "positional", "spring" or "mjx".
            settings: what the task's constructor takes.
        """
        super().__init__()
        self.task, self.backend = task, backend
        self.brax = brax.envs.get_environment(task, backend=backend, **settings)

    @property
    def name(self) -> str:
        """Brax's name for the task."""
        return self.task

    @property
    def default_params(self) -> BraxParams:
        """Time limit of 1000 steps."""
        return BraxParams()

    def restart(self, state: BraxState, params: BraxParams):
        """Return to the state of the first reset."""
        return state.start.obs, BraxState(state.start, state.start, jnp.int32(0))

    def step_env(self, key: jax.Array, state: BraxState, action: jax.Array, params: BraxParams):
        """Step the simulation; actions beyond [-1, 1] are clipped, as everywhere in Brax."""
        stepped = self.brax.step(state.brax, jnp.clip(action, -1.0, 1.0))
        state = state.replace(brax=stepped, time=state.time + 1)
        obs, state = self._apply_transition_gradient_policy(stepped.obs, state)
        return obs, state, stepped.reward, stepped.done.astype(bool), {}

    def reset_env(self, key: jax.Array, params: BraxParams):
        """Reset the simulation."""
        start = self.brax.reset(key)
        return start.obs, BraxState(start, start, jnp.int32(0))

    def action_space(self, params: Any = None) -> spaces.Box:
        """Torques in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (self.brax.action_size,))

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Return an unbounded box."""
        return spaces.Box(-jnp.inf, jnp.inf, (self.brax.observation_size,))
