"""A student that trains on many levels at once: one in each of its environments.

`OwnLevel` keeps the level in the environment's state. So an algorithm that was written for one
level, as all of `algos/` are, trains on as many levels as it has environments, unchanged.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.parts.returns import Episode
from purejaxrl.parts.wrappers import Wrapper


@struct.dataclass
class LevelState:
    """The state of the environment inside, and its level."""

    inner: Any
    level: Any


class OwnLevel(Wrapper):
    """An environment whose state holds its level; it must be the outermost wrapper.

    `reset` takes its level from `params`. `step` uses the level in the state and ignores `params`.
    """

    def step(self, key: jax.Array, state: LevelState, action: jax.Array, params: Any = None):
        """Step with the auto-reset of the environment inside, on the state's level."""
        obs, inner, *rest = self._env.step(key, state.inner, action, state.level)
        return obs, state.replace(inner=inner), *rest

    def step_env(self, key: jax.Array, state: LevelState, action: jax.Array, params: Any):
        """Step without auto-reset, on the state's level."""
        obs, inner, *rest = self._env.step_env(key, state.inner, action, state.level)
        return obs, state.replace(inner=inner), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Begin an episode on the level `params`, and keep it in the state."""
        obs, inner = self._env.reset_env(key, params)
        return obs, LevelState(inner, params)

    def restart(self, state: LevelState, params: Any):
        """Begin the next episode on the same level."""
        obs, inner = self._env.restart(state.inner, state.level)
        return obs, state.replace(inner=inner)

    def is_truncated(self, state: LevelState, params: Any) -> jax.Array:
        """Whether the level's time limit was reached."""
        return self._env.is_truncated(state.inner, state.level)


def move_to_levels(key: jax.Array, student: Any, env: OwnLevel, levels: Any) -> Any:
    """Begin an episode on a new level in each of a student's environments.

    Args:
        key: typed key.
        student: an agent's state.
        env: the environment it was made with.
        levels: leaves `[num_envs, ...]`.

    Returns:
        The student's state.
    """
    interaction = student.interaction
    num_envs = interaction.first.shape[0]
    obs, env_state = jax.vmap(env.reset)(jax.random.split(key, num_envs), levels)
    return student._replace(
        interaction=interaction._replace(
            env_state=env_state,
            obs=obs,
            first=jnp.ones(num_envs, bool),
            episode=Episode.start(num_envs),
        )
    )
