"""Brax's environments on the gymnax 1.x interface.

Brax's own wrappers mark truncation but lose the final observation. Here an episode ends
`terminated` (the body fell) or `truncated` (time is up), and `final_observation` is the observation
before the reset.
"""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from flax import struct
from gymnax.environments import spaces

from purejaxrl.parts.wrappers import Restarting
from purejaxrl.validation import require_choice, require_known

BACKENDS = ("generalized", "positional", "spring", "mjx")
"""Brax's physics."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what Brax and MuJoCo say at every use: deprecations, and that warp is not installed."""

    def warn(message: str) -> None:  # without it MuJoCo also writes a file, MUJOCO_LOG.TXT
        if "is deprecated" not in message:
            warnings.warn(f"MuJoCo: {message}", stacklevel=2)

    printed, before = io.StringIO(), mujoco.get_mju_user_warning()
    try:
        mujoco.set_mju_user_warning(warn)
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.filterwarnings("ignore", "Brax System", UserWarning)
            yield
    finally:
        mujoco.set_mju_user_warning(before)
        lines = printed.getvalue().splitlines(keepends=True)
        sys.stdout.writelines(line for line in lines if not line.startswith("Failed to import"))


with _quiet():
    import brax.envs
    import brax.io.html


@struct.dataclass
class BraxState:
    """The simulation, where its episodes start, and the time."""

    brax: brax.envs.State
    start: brax.envs.State
    time: jax.Array  # int32, steps since the reset


@struct.dataclass
class BraxParams:
    """The time limit, in steps."""

    max_steps_in_episode: int = 1000


class BraxEnvironment(Restarting):
    """A Brax task.

    A reset of the simulation costs many steps. Each environment therefore returns to the state of
    its first reset, as with Brax's own auto-reset. Different environments start differently.
    """

    def __init__(self, task: str, backend: str = "spring", **settings: Any):
        """Make a task.

        Args:
            task: Brax's name for it, such as "ant".
            backend: physics, one of `BACKENDS`.
            settings: arguments of the task's constructor.

        Raises:
            ValueError: for an unknown task or backend.
        """
        super().__init__()
        self.task, self.backend = task, backend
        require_choice(self, "backend", BACKENDS)
        require_known("Brax task", task, brax.envs._envs)
        with _quiet():
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
        """Step the simulation; actions are clipped to [-1, 1], as everywhere in Brax."""
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

    def render_html(self, states: Sequence[BraxState]) -> str:
        """Show states as a web page with Brax's viewer, which the browser downloads."""
        return brax.io.html.render(
            self.brax.sys.tree_replace({"opt.timestep": self.brax.dt}),
            [state.brax.pipeline_state for state in states],
            colab=False,
        )
