"""The critic of a meta-objective: every agent has one, which learns on its experience."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

from purejaxrl.parts import optimizers
from purejaxrl.parts.returns import ValueEstimates, generalized_advantage
from purejaxrl.parts.rollout import Transition


class CriticState(NamedTuple):
    """The critic of one agent."""

    params: Any
    opt_state: Any


def init(network: nn.Module, key: jax.Array, obs: Any, learning_rate: jax.Array) -> CriticState:
    """Initialise a critic; `network` maps observations `[..., *obs_shape]` to `[..., 1]`."""
    params = network.init(key, obs)
    return CriticState(params, optimizers.adam(learning_rate).init(params))


def estimate(
    network: nn.Module, params: Any, seen: Transition, gamma: jax.Array, gae_lambda: jax.Array
) -> ValueEstimates:
    """Estimate values and generalised advantages, float32 `[num_steps, num_envs]`."""
    value = network.apply(params, seen.obs)[..., 0]
    next_value = network.apply(params, seen.final_obs)[..., 0]
    advantage = generalized_advantage(
        seen.reward, value, next_value, seen.terminated, seen.truncated, gamma, gae_lambda
    )
    return ValueEstimates(value, advantage)


def update(
    network: nn.Module,
    old: CriticState,
    seen: Transition,
    target: jax.Array,
    learning_rate: jax.Array,
) -> tuple[CriticState, jax.Array]:
    """Take one gradient step towards the λ-returns.

    Returns:
        The critic, and the fraction of the λ-returns' variance that it explained before the step.
    """

    def loss(params):
        error = network.apply(params, seen.obs)[..., 0] - target
        return 0.5 * (error**2).mean(), 1 - error.var() / (target.var() + 1e-8)

    grads, explained = jax.grad(loss, has_aux=True)(old.params)
    updates, opt_state = optimizers.adam(learning_rate).update(grads, old.opt_state, old.params)
    return CriticState(optax.apply_updates(old.params, updates), opt_state), explained
