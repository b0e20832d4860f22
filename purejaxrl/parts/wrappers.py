"""Wrappers on the gymnax 1.x interface.

A wrapper changes `step_env`, `reset_env`, `is_truncated` or the spaces of the environment inside.
The outermost wrapper resets automatically, so `final_observation` is what the agent would have
seen. Some environments can start an episode without random numbers, because a reset is slow (Brax)
or draws nothing (a maze). They extend `Restarting`, and auto-reset calls their
`restart(state, params) -> (obs, state)`. A wrapper that changes `reset_env` must change `restart`
in the same way.

Statistics of observations, rewards and episodes are not wrappers but pure functions of an agent's
state (`normalize.py`, `returns.py`), because their discount is a traced hyperparameter.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces

from purejaxrl.parts.networks import num_rows


class Restarting(environment.Environment):
    """An environment with a `restart`, or a wrapper, which may contain one."""

    def restart(self, state: Any, params: Any) -> tuple[Any, Any]:
        """Start the next episode from the last state of this one: (obs, state)."""
        raise NotImplementedError

    @functools.partial(jax.jit, static_argnums=0)
    def step(self, key: jax.Array, state: Any, action: jax.Array, params: Any = None):
        """Step with auto-reset, as in gymnax; `info["final_observation"]` is the one before it.

        A restart needs no key, so the step gets all of `key`. Otherwise `key` is split between
        the step and the reset.
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

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step without auto-reset: (obs, state, reward, terminated, info)."""
        return self._env.step_env(key, state, action, params)

    def reset_env(self, key: jax.Array, params: Any):
        """Reset: (obs, state)."""
        return self._env.reset_env(key, params)

    def restart(self, state: Any, params: Any):
        """Start the next episode as the environment inside does."""
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
    """Flattens observations to vectors `[size]`; a single array keeps its dtype.

    An array becomes its entries, an index a one-hot vector, and a tuple its parts one after another
    (as in Gymnasium's `FlattenObservation`).
    """

    def __init__(self, env: environment.Environment):
        """Wrap `env`.

        Raises:
            ValueError: if its observations are not arrays, indices, or tuples of these.
        """
        super().__init__(env)
        self.observation_space(env.default_params)

    def _flat(self, obs: Any, params: Any) -> jax.Array:
        return _flatten(self._env.observation_space(params), obs)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step; the observation is flattened."""
        obs, *rest = self._env.step_env(key, state, action, params)
        return self._flat(obs, params), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Reset; the observation is flattened."""
        obs, state = self._env.reset_env(key, params)
        return self._flat(obs, params), state

    def restart(self, state: Any, params: Any):
        """Restart; the observation is flattened."""
        obs, state = super().restart(state, params)
        return self._flat(obs, params), state

    def observation_space(self, params: Any) -> spaces.Box:
        """Return a box of one dimension, with the widest of differing bounds."""
        return _flat_space(self._env.observation_space(params))


def _flatten(space: spaces.Space, obs: Any) -> jax.Array:
    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(obs, space.n)
    if isinstance(space, spaces.Dict):
        parts = [_flatten(part, getattr(obs, name)) for name, part in space.spaces.items()]
        return jnp.concatenate(parts)
    return jnp.ravel(obs)


def _flat_space(space: spaces.Space) -> spaces.Box:
    if isinstance(space, spaces.Box):
        low, high = jnp.min(space.low), jnp.max(space.high)
        return spaces.Box(low, high, (math.prod(space.shape),), space.dtype)
    if isinstance(space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (space.n,))
    if isinstance(space, spaces.Dict):
        parts = [_flat_space(part) for part in space.spaces.values()]
        low = functools.reduce(jnp.minimum, [part.low for part in parts])
        high = functools.reduce(jnp.maximum, [part.high for part in parts])
        return spaces.Box(low, high, (sum(part.shape[0] for part in parts),))
    raise ValueError(
        f"env: observations in {space} are not valid; they must be a Box, Discrete, or a Dict"
    )


def _require_box(env: environment.Environment) -> None:
    space = env.action_space(env.default_params)
    if not isinstance(space, spaces.Box):
        raise ValueError(f"env: actions in {space} are not valid; they must be a Box")


class ClipAction(Wrapper):
    """Continuous actions, clipped to the bounds of the space inside."""

    def __init__(self, env: environment.Environment):
        """Wrap `env`.

        Raises:
            ValueError: if its actions are not continuous.
        """
        _require_box(env)
        super().__init__(env)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any):
        """Step with the action clipped."""
        space = self._env.action_space(params)
        return self._env.step_env(key, state, jnp.clip(action, space.low, space.high), params)


class ScaleAction(Wrapper):
    """Continuous actions in [-1, 1], clipped and scaled to the bounds of the space inside."""

    def __init__(self, env: environment.Environment):
        """Wrap `env`.

        Raises:
            ValueError: if its actions are not continuous, or have no finite bounds.
        """
        _require_box(env)
        space = env.action_space(env.default_params)
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(
                f"action_space: {type(space).__name__}({space.low}, {space.high}) is not valid; "
                "its bounds must be finite"
            )
        super().__init__(env)

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


def for_network(
    env: environment.Environment, *, images: bool = False, tables: bool = False
) -> environment.Environment:
    """Wrap an environment so that networks can read its observations and choose its actions.

    Observations become vectors. Continuous actions become actions in [-1, 1], and are clipped: not
    every environment does that itself.

    Args:
        env: gymnax environment; its spaces are read at its default parameters.
        images: keep observations of three dimensions as they are, for a convolutional torso.
        tables: keep observations that index a table, for an algorithm that can use one.

    Raises:
        ValueError: if its observations cannot be flattened, or its actions are neither discrete
            nor vectors.
    """
    observations = env.observation_space(env.default_params)
    num_dims = len(observations.shape) if isinstance(observations, spaces.Box) else 0
    is_table = num_rows(observations) is not None
    if num_dims != 1 and not (images and num_dims == 3) and not (tables and is_table):
        env = FlattenObservation(env)
    actions = env.action_space(env.default_params)
    if isinstance(actions, spaces.Discrete):
        return env
    if not isinstance(actions, spaces.Box) or len(actions.shape) != 1:
        raise ValueError(
            f"env: actions in {actions} are not valid; they must be Discrete, or a Box with one "
            "dimension"
        )
    is_unit = bool((jnp.asarray(actions.low) == -1).all() & (jnp.asarray(actions.high) == 1).all())
    return ClipAction(env) if is_unit else ScaleAction(env)
