"""How far synthetic steps are from the true dynamics, where observations tell the state."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from purejaxrl.parts.transitions import Step
from purejaxrl.parts.wrappers import ScaleAction


def _pendulum(env_params: Any, obs: jax.Array) -> Any:
    env, _ = gymnax.make("Pendulum-v1")
    _, state = env.reset(jax.random.key(0), env_params)
    angle = jnp.arctan2(obs[1], obs[0])
    return state.replace(theta=angle, theta_dot=obs[2], time=jnp.int32(0))


STATE_OF: Mapping[str, Callable[[Any, jax.Array], Any]] = {"Pendulum-v1": _pendulum}
"""`(env_params, obs) -> state`, by the name of an environment whose observation determines it."""


def dynamics_error(name: str, env_params: Any, steps: Step, variance: jax.Array) -> jax.Array:
    """Compute the squared error of next observations, in units of a variance, `[...]`.

    Args:
        name: name of the environment.
        env_params: its level.
        steps: leaves `[..., entries]`; actions in [-1, 1].
        variance: variance of true next observations, float32 `[entries]`.

    Raises:
        ValueError: if the state cannot be read off the observations of this environment.
    """
    if name not in STATE_OF:
        raise ValueError(
            f"env: {name!r} is not valid; its observations do not say its state. Those of "
            f"{', '.join(STATE_OF)} do"
        )
    env = ScaleAction(gymnax.make(name)[0])

    def true_next(obs: jax.Array, action: jax.Array) -> jax.Array:
        state = STATE_OF[name](env_params, obs)
        return env.step_env(jax.random.key(0), state, action, env_params)[0]

    each = true_next
    for _ in range(steps.reward.ndim):
        each = jax.vmap(each)
    error = (each(steps.obs, steps.action) - steps.next_obs) ** 2
    return (error / variance).mean(-1)
