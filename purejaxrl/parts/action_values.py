"""Action values: how to select them, and exploration by random actions, rarer with age."""

from typing import Any

import jax
import jax.numpy as jnp


def of_action(q: jax.Array, action: jax.Array) -> jax.Array:
    """Select the entries of actions, `[...]`, such as their values or log-probabilities.

    Args:
        q: an entry for each action, `[..., num_actions]`.
        action: which actions, int32 `[...]`.
    """
    return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]


def epsilon_of(state: Any, hypers: Any) -> jax.Array:
    """Compute ε, which falls linearly over the first part of an agent's life, and then stays.

    Args:
        state: has `step`, the number of updates done, and `task.horizon`, that of the whole life.
        hypers: has `epsilon_start`, `epsilon_end` and `exploration`, the part of the life, > 0.
    """
    age = state.step / state.task.horizon
    start, end = hypers.epsilon_start, hypers.epsilon_end
    return start + (end - start) * jnp.clip(age / hypers.exploration, 0.0, 1.0)


def epsilon_greedy(key: jax.Array, q: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Choose the action of the highest value, or with probability ε any action: int32 `[...]`.

    Args:
        key: typed key.
        q: action values, `[..., num_actions]`.
        epsilon: scalar.
    """
    coin_key, action_key = jax.random.split(key)
    best = q.argmax(-1).astype(jnp.int32)
    any_action = jax.random.randint(action_key, best.shape, 0, q.shape[-1])
    return jnp.where(jax.random.bernoulli(coin_key, epsilon, best.shape), any_action, best)
