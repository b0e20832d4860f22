"""A student on many levels at once: one in each of its environments.

`OwnLevel` puts the level into an environment's state, so that an algorithm that knows one level
(all of `algos/`) learns on as many as it has environments, unchanged.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.parts.returns import Episode
from purejaxrl.parts.wrappers import Wrapper


@struct.dataclass
class Placed:
    """The state inside, and the level it is on."""

    inner: Any
    level: Any


class OwnLevel(Wrapper):
    """Every environment on a level of its own, which its state holds; the outermost wrapper.

    The level of a reset is the `params` it is given; a step's are ignored.
    """

    def step(self, key: jax.Array, state: Placed, action: jax.Array, params: Any = None):
        """Step with the auto-reset of the environment inside, on the state's level."""
        obs, inner, *rest = self._env.step(key, state.inner, action, state.level)
        return obs, state.replace(inner=inner), *rest

    def step_env(self, key: jax.Array, state: Placed, action: jax.Array, params: Any):
        """Step without auto-reset, on the state's level."""
        obs, inner, *rest = self._env.step_env(key, state.inner, action, state.level)
        return obs, state.replace(inner=inner), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Begin an episode on a level."""
        obs, inner = self._env.reset_env(key, params)
        return obs, Placed(inner, params)

    def restart(self, state: Placed, params: Any):
        """Begin the next episode on the state's level."""
        obs, inner = self._env.restart(state.inner, state.level)
        return obs, state.replace(inner=inner)

    def is_truncated(self, state: Placed, params: Any) -> jax.Array:
        """Whether the level's time limit was reached."""
        return self._env.is_truncated(state.inner, state.level)


def send(key: jax.Array, student: Any, env: OwnLevel, levels: Any) -> Any:
    """Begin an episode on each of as many levels as the student has environments.

    Args:
        key: typed key.
        student: an agent's state.
        env: what it is in.
        levels: `[num_envs, ...]`.
    """
    num_envs = student.first.shape[0]
    obs, env_state = jax.vmap(env.reset)(jax.random.split(key, num_envs), levels)
    return student._replace(
        obs=obs,
        env_state=env_state,
        first=jnp.ones(num_envs, bool),
        episode=Episode.start(num_envs),
    )
