"""Two critics of state and action, for either kind of action."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.parts import networks
from purejaxrl.parts.action_values import of_action
from purejaxrl.parts.continuous import check_vectors, num_dims


def init_twins(key: jax.Array, critic: nn.Module, inputs: jax.Array) -> Any:
    """Draw the parameters of two critics, leaves `[2, ...]`."""
    return jax.vmap(critic.init, in_axes=(0, None))(jax.random.split(key), inputs)


def apply_twins(critic: nn.Module, params: Any, inputs: jax.Array) -> jax.Array:
    """Apply both critics to the same inputs: `[2, ..., features]`."""
    return jax.vmap(critic.apply, in_axes=(0, None))(params, inputs)


class ContinuousCritics:
    """Two networks that read the action beside the observation."""

    def __init__(self, env: Any, torso: nn.Module):
        """Make the network.

        Raises:
            ValueError: if actions are not in [-1, 1], or observations are not vectors.
        """
        self.num_dims = num_dims(env)
        check_vectors(env)
        self.network = nn.Sequential([torso, networks.dense(1, 1.0)])

    def init(self, key: jax.Array, obs: jax.Array) -> Any:
        """Draw the parameters of both critics."""
        action = jnp.zeros((*obs.shape[:-1], self.num_dims))
        return init_twins(key, self.network, jnp.concatenate([obs, action], -1))

    def q(self, params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Return the values of actions by both critics, `[2, ...]`."""
        inputs = jnp.concatenate([obs, action], -1)
        return apply_twins(self.network, params, inputs)[..., 0]


class DiscreteCritics:
    """Two networks, or tables, with an output for each action."""

    def __init__(self, env: Any, torso: nn.Module | None):
        """Make the network.

        Raises:
            ValueError: if actions are not discrete.
        """
        space = env.observation_space(env.default_params)
        num_actions = networks.num_actions(env.action_space(env.default_params))
        self.network = networks.readout(space, torso, num_actions)

    def init(self, key: jax.Array, obs: Any) -> Any:
        """Draw the parameters of both critics."""
        return init_twins(key, self.network, obs)

    def q(self, params: Any, obs: Any, action: jax.Array) -> jax.Array:
        """Return the values of actions by both critics, `[2, ...]`."""
        q = apply_twins(self.network, params, obs)
        return of_action(q, jnp.broadcast_to(action, q.shape[:-1]))


def twin_critics(env: Any, torso: nn.Module | None) -> ContinuousCritics | DiscreteCritics:
    """Make two critics for an environment's actions.

    Args:
        env: gymnax environment.
        torso: the torso of each critic; None for tables.
    """
    return (DiscreteCritics if networks.is_discrete(env) else ContinuousCritics)(env, torso)
