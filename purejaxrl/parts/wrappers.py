"""Wrappers on the gymnax 1.x interface.

A wrapper changes `step_env`, `reset_env`, `is_truncated` or the spaces of the environment inside.
Auto-reset happens once, outside of all of them, so `final_observation` is what the agent would have
seen. Where an episode can begin again without drawing anything, because its resets are dear (Brax)
or because they draw nothing (a maze), an environment extends `Restarting`: auto-reset then calls
its `restart(state, params) -> (obs, state)`. A wrapper that changes `reset_env` changes it alike.

Statistics of observations, rewards and episodes are not wrappers here but pure functions of an
agent's state (`normalize.py`, `returns.py`): their discount is a traced hyperparameter.
"""

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


class Restarting(environment.Environment):
    """An environment with a `restart`, or a wrapper that may be around one."""

    def restart(self, state: Any, params: Any) -> tuple[Any, Any]:
        """Begin the next episode from the state the last one ended in: (obs, state)."""
        raise NotImplementedError

    @functools.partial(jax.jit, static_argnums=0)
    def step(self, key: jax.Array, state: Any, action: jax.Array, params: Any = None):
        """Step with auto-reset, as in gymnax: the info holds the true `final_observation`.

        A restart draws nothing, so that the key is the step's alone; without one it is split
        into the step's and the reset's.
        """
        params = self.default_params if params is None else params
        restarts = isinstance(unwrapped(self), Restarting)
        step_key, reset_key = (key, None) if restarts else jax.random.split(key)
        final_obs, stepped, reward, terminated, info = self.step_env(
            step_key, state, action, params
        )
        truncated = self.is_truncated(stepped, params)
        fresh_obs, fresh = (
            self.restart(stepped, params) if restarts else self.reset_env(reset_key, params)
        )
        obs, state = jax.tree.map(
            lambda a, b: jnp.where(terminated | truncated, a, b),
            (fresh_obs, fresh),
            (final_obs, stepped),
        )
        flags = {"terminated": terminated, "truncated": truncated, "final_observation": final_obs}
        return obs, state, reward, terminated, truncated, info | flags


def unwrapped(env: Any) -> Any:
    """Return the environment inside all wrappers."""
    while isinstance(env, Wrapper):
        env = env._env
    return env


class Wrapper(Restarting):
    """An environment that delegates to the one inside."""

    def __init__(self, env: environment.Environment):
        """Wrap `env`."""
        self._env = env

    def __getattr__(self, name: str) -> Any:
        if name == "_env":
            raise AttributeError(name)
        return getattr(self._env, name)

    @property
    def name(self) -> str:
        """Name of the environment inside."""
        return self._env.name

    @property
    def num_actions(self) -> int:
        """Number of actions of the environment inside."""
        return self._env.num_actions

    @property
    def default_params(self) -> Any:
        """Parameters of the environment inside."""
        return self._env.default_params

    @property
    def supports_transition_gradients(self) -> bool:
        """Whether the environment inside is differentiable."""
        return self._env.supports_transition_gradients

    @property
    def transition_gradients_enabled(self) -> bool:
        """Whether the environment inside lets gradients through."""
        return self._env.transition_gradients_enabled

    def with_transition_gradients(self) -> "Wrapper":
        """Return a copy around an environment that lets gradients through."""
        configured = copy.copy(self)
        configured._env = self._env.with_transition_gradients()
        return configured

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step without auto-reset: (obs, state, reward, terminated, info)."""
        return self._env.step_env(key, state, action, params)

    def reset_env(self, key: jax.Array, params: Any):
        """Reset: (obs, state)."""
        return self._env.reset_env(key, params)

    def restart(self, state: Any, params: Any):
        """Begin the next episode as the environment inside does."""
        return self._env.restart(state, params)

    def is_truncated(self, state: Any, params: Any) -> jax.Array:
        """Whether the time limit was reached."""
        return self._env.is_truncated(state, params)

    def action_space(self, params: Any):
        """Action space."""
        return self._env.action_space(params)

    def observation_space(self, params: Any):
        """Observation space."""
        return self._env.observation_space(params)


class FlattenObservation(Wrapper):
    """Observations as vectors, `[prod(obs_shape)]`."""

    def __init__(self, env: environment.Environment):
        """Wrap `env`.

        Raises:
            ValueError: if its observations are not arrays of a box.
        """
        space = env.observation_space(env.default_params)
        if not isinstance(space, spaces.Box):
            raise ValueError(f"env: observations in {space} are not valid; they must be a Box")
        super().__init__(env)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step; the observation is flattened."""
        obs, *rest = self._env.step_env(key, state, action, params)
        return jnp.ravel(obs), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Reset; the observation is flattened."""
        obs, state = self._env.reset_env(key, params)
        return jnp.ravel(obs), state

    def restart(self, state: Any, params: Any):
        """Restart; the observation is flattened."""
        obs, state = super().restart(state, params)
        return jnp.ravel(obs), state

    def observation_space(self, params: Any) -> spaces.Box:
        """Return a box of one dimension; bounds that differ between entries become the widest."""
        inner = self._env.observation_space(params)
        size = 1
        for extent in inner.shape:
            size *= extent
        return spaces.Box(jnp.min(inner.low), jnp.max(inner.high), (size,), inner.dtype)


class OneHotObservation(Wrapper):
    """Indices as one-hot vectors, float32 `[n]`."""

    def __init__(self, env: environment.Environment):
        """Wrap `env`.

        Raises:
            ValueError: if its observations are not indices.
        """
        space = env.observation_space(env.default_params)
        if not isinstance(space, spaces.Discrete):
            raise ValueError(f"env: observations in {space} are not valid; they must be Discrete")
        super().__init__(env)

    def _one_hot(self, obs: jax.Array, params: Any) -> jax.Array:
        return jax.nn.one_hot(obs, self._env.observation_space(params).n)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step; the observation is one-hot."""
        obs, *rest = self._env.step_env(key, state, action, params)
        return self._one_hot(obs, params), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Reset; the observation is one-hot."""
        obs, state = self._env.reset_env(key, params)
        return self._one_hot(obs, params), state

    def restart(self, state: Any, params: Any):
        """Restart; the observation is one-hot."""
        obs, state = super().restart(state, params)
        return self._one_hot(obs, params), state

    def observation_space(self, params: Any) -> spaces.Box:
        """Return the unit box with one dimension for each index."""
        return spaces.Box(0.0, 1.0, (self._env.observation_space(params).n,))


class ClipAction(Wrapper):
    """Continuous actions, clipped to the bounds of the space inside."""

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step with the action clipped."""
        space = self._env.action_space(params)
        return self._env.step_env(key, state, jnp.clip(action, space.low, space.high), params)


class ScaleAction(Wrapper):
    """Continuous actions in [-1, 1], clipped and scaled to the bounds of the space inside."""

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step with the action scaled."""
        space = self._env.action_space(params)
        unit = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
        action = space.low + unit * (space.high - space.low)
        return self._env.step_env(key, state, action, params)

    def action_space(self, params: Any) -> spaces.Box:
        """Return the unit box of the inner space's shape."""
        inner = self._env.action_space(params)
        return spaces.Box(-1.0, 1.0, inner.shape, inner.dtype)


@struct.dataclass
class Timed:
    """The state inside, and steps since the reset (int32)."""

    inner: Any
    time: jax.Array


class TimeLimit(Wrapper):
    """Truncate episodes after `max_steps`, unless the environment inside does so before."""

    def __init__(self, env: environment.Environment, max_steps: int):
        """Wrap `env`.

        Raises:
            ValueError: if `max_steps` is not a positive integer.
        """
        if max_steps < 1:
            raise ValueError(f"max_steps: {max_steps} is not valid; it must be an integer >= 1")
        super().__init__(env)
        self.max_steps = max_steps

    def step_env(self, key: jax.Array, state: Timed, action: jax.Array, params: Any):
        """Step and count."""
        obs, inner, *rest = self._env.step_env(key, state.inner, action, params)
        return obs, Timed(inner, state.time + 1), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Reset and count from 0."""
        obs, inner = self._env.reset_env(key, params)
        return obs, Timed(inner, jnp.int32(0))

    def restart(self, state: Timed, params: Any):
        """Restart and count from 0."""
        obs, inner = super().restart(state.inner, params)
        return obs, Timed(inner, jnp.int32(0))

    def is_truncated(self, state: Timed, params: Any) -> jax.Array:
        """Whether either limit was reached."""
        return self._env.is_truncated(state.inner, params) | (state.time >= self.max_steps)
