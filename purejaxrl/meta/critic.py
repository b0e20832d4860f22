"""The value function of a meta-objective: one for each agent, it lives and learns with it."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

from purejaxrl.parts import optimizers
from purejaxrl.parts.returns import Estimates, generalized_advantage
from purejaxrl.parts.rollout import Transition


class Critic(NamedTuple):
    """An agent's critic."""

    params: Any
    opt_state: Any


def start(network: nn.Module, key: jax.Array, obs: Any, learning_rate: jax.Array) -> Critic:
    """Initialise a critic; `network` is from observations `[..., *obs_shape]` to `[..., 1]`."""
    params = network.init(key, obs)
    return Critic(params, optimizers.adam(learning_rate).init(params))


def estimate(
    network: nn.Module, params: Any, seen: Transition, gamma: jax.Array, gae_lambda: jax.Array
) -> Estimates:
    """Values, and generalised advantages."""
    value = network.apply(params, seen.obs)[..., 0]
    next_value = network.apply(params, seen.final_obs)[..., 0]
    advantage = generalized_advantage(
        seen.reward, value, next_value, seen.terminated, seen.truncated, gamma, gae_lambda
    )
    return Estimates(value, advantage)


def improve(
    network: nn.Module, old: Critic, seen: Transition, target: jax.Array, learning_rate: jax.Array
) -> tuple[Critic, jax.Array]:
    """One step towards the λ-returns; and which part of their variance was explained."""

    def loss(params):
        error = network.apply(params, seen.obs)[..., 0] - target
        return 0.5 * (error**2).mean(), 1 - error.var() / (target.var() + 1e-8)

    grads, explained = jax.grad(loss, has_aux=True)(old.params)
    updates, opt_state = optimizers.adam(learning_rate).update(grads, old.opt_state, old.params)
    return Critic(optax.apply_updates(old.params, updates), opt_state), explained
