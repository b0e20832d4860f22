"""A builder: an environment whose episodes make levels, for a teacher to act in.

Any environment whose steps return the level so far as `info["level"]` can be wrapped. `Builder`
adds what a teacher needs: random numbers to see, so that one policy makes many levels, and the
finished level, which stays in the state when the next episode begins.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from purejaxrl.parts.wrappers import Restarting, Wrapper, unwrapped
from purejaxrl.validation import require_count


@struct.dataclass
class BuilderState:
    """The state of the environment inside, the random numbers, and the last finished level."""

    inner: Any
    noise: jax.Array  # float32 [noise_size], the same during an episode
    key: jax.Array  # for the noise of the next episode
    built: Any  # the level that the last episode made; zeros before the first one ends


class Builder(Wrapper):
    """An environment that makes levels; its observations, vectors, begin with random numbers."""

    def __init__(self, env: Any, noise_size: int = 16):
        """Wrap `env`.

        Args:
            env: an environment with observations `[size]`, whose steps return `info["level"]`. An
                episode has as many steps as its default parameters' `max_steps_in_episode`, and
                then terminates.
            noise_size: random numbers in [-1, 1) that an episode shows.

        Raises:
            ValueError: if it makes no levels.
        """
        super().__init__(env)
        self.noise_size = noise_size
        require_count(self, "noise_size")
        restarts = isinstance(unwrapped(env), Restarting)
        if not restarts or "level" not in self._info():
            raise ValueError(
                f"env: {type(unwrapped(env)).__name__} is not valid; its steps must return the "
                'level that they make, as info["level"]'
            )

    @property
    def num_steps(self) -> int:
        """Steps that a level takes."""
        return int(self.default_params.max_steps_in_episode)

    def no_level(self) -> Any:
        """Return zeros in the shape of a level."""
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._info()["level"])

    def _info(self) -> dict[str, Any]:
        def step(key: jax.Array):
            reset_key, action_key, step_key = jax.random.split(key, 3)
            params = self._env.default_params
            _, state = self._env.reset_env(reset_key, params)
            action = self._env.action_space(params).sample(action_key)
            return self._env.step_env(step_key, state, action, params)[-1]

        return jax.eval_shape(step, jax.random.key(0))

    def _begin(self, key: jax.Array, obs: jax.Array, inner: Any, built: Any):
        noise_key, key = jax.random.split(key)
        noise = jax.random.uniform(noise_key, (self.noise_size,), minval=-1.0)
        return jnp.concatenate([noise, obs]), BuilderState(inner, noise, key, built)

    def reset_env(self, key: jax.Array, params: Any):
        """Begin a level."""
        inner_key, key = jax.random.split(key)
        return self._begin(key, *self._env.reset_env(inner_key, params), self.no_level())

    def restart(self, state: BuilderState, params: Any):
        """Begin the next level, and keep the finished one."""
        return self._begin(state.key, *self._env.restart(state.inner, params), state.built)

    def step_env(self, key: jax.Array, state: BuilderState, action: jax.Array, params: Any):
        """Go on with the level."""
        obs, inner, *rest, info = self._env.step_env(key, state.inner, action, params)
        state = state.replace(inner=inner, built=info["level"])
        return jnp.concatenate([state.noise, obs]), state, *rest, info

    def is_truncated(self, state: BuilderState, params: Any) -> jax.Array:
        """Whether the time limit was reached."""
        return self._env.is_truncated(state.inner, params)

    def observation_space(self, params: Any) -> spaces.Box:
        """Return a box with room for the noise."""
        inner = self._env.observation_space(params)
        low, high = jnp.minimum(jnp.min(inner.low), -1.0), jnp.maximum(jnp.max(inner.high), 1.0)
        return spaces.Box(low, high, (self.noise_size + inner.shape[0],))
