"""The critic of a meta-objective: every agent has one, trained on the agent's experience.

It predicts returns in units of their running standard deviation, so that one step size suits
environments of any scale of reward. Advantages are divided by their own running scale, so that
agents on levels with large rewards do not dominate the meta-gradient.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.parts import optimizers
from purejaxrl.parts.normalize import RewardScale, advance_scale
from purejaxrl.parts.returns import ValueEstimates, generalized_advantage
from purejaxrl.parts.rollout import Transition

DECAY = 0.9
"""Decay of the exponential average of squared advantages, per update."""
LEAST_SCALE = 0.1
"""Advantages are divided by at least this fraction of the returns' standard deviation: without
rewards they are only the critic's noise, which must not be amplified."""


class CriticState(NamedTuple):
    """The critic of one agent."""

    params: Any
    opt_state: Any
    returns: RewardScale
    advantage_square: jax.Array  # float32 [], running mean, in units of the returns' variance


def init(
    network: nn.Module, key: jax.Array, obs: Any, num_envs: int, learning_rate: jax.Array
) -> CriticState:
    """Initialise a critic; `network` maps observations `[..., *obs_shape]` to `[..., 1]`."""
    params = network.init(key, obs)
    opt_state = optimizers.adam(learning_rate).init(params)
    return CriticState(params, opt_state, RewardScale.start(num_envs), jnp.ones(()))


def estimate(
    network: nn.Module,
    old: CriticState,
    seen: Transition,
    gamma: jax.Array,
    gae_lambda: jax.Array,
) -> tuple[CriticState, ValueEstimates]:
    """Estimate values and generalised advantages, float32 `[num_steps, num_envs]`.

    Returns:
        The critic with advanced statistics, and the estimates in units of the reward.
    """
    done = seen.terminated | seen.truncated
    returns = advance_scale(old.returns, seen.reward, done, gamma)
    unit = return_std(returns)
    value = unit * network.apply(old.params, seen.obs)[..., 0]
    next_value = unit * network.apply(old.params, seen.final_obs)[..., 0]
    advantage = generalized_advantage(
        seen.reward, value, next_value, seen.terminated, seen.truncated, gamma, gae_lambda
    )
    square = DECAY * old.advantage_square + (1 - DECAY) * ((advantage / unit) ** 2).mean()
    critic = old._replace(returns=returns, advantage_square=square)
    return critic, ValueEstimates(value, advantage)


def return_std(returns: RewardScale) -> jax.Array:
    """Return the running standard deviation of the discounted return: float32 []."""
    return jnp.sqrt(returns.moments.var + 1e-8)


def normalize_advantage(critic: CriticState, advantage: jax.Array) -> jax.Array:
    """Divide advantages by their running scale, which has a floor."""
    scale = jnp.maximum(jnp.sqrt(critic.advantage_square), LEAST_SCALE)
    return advantage / (return_std(critic.returns) * scale)


def update(
    network: nn.Module,
    old: CriticState,
    seen: Transition,
    target: jax.Array,
    learning_rate: jax.Array,
) -> tuple[CriticState, jax.Array]:
    """Take one gradient step towards the λ-returns, `target`, which are in units of the reward.

    Returns:
        The critic, and the fraction of the λ-returns' variance that it explained before the step.
    """
    target = target / return_std(old.returns)

    def loss(params):
        error = network.apply(params, seen.obs)[..., 0] - target
        return 0.5 * (error**2).mean(), 1 - error.var() / (target.var() + 1e-8)

    grads, explained = jax.grad(loss, has_aux=True)(old.params)
    params, opt_state = optimizers.descend(learning_rate, grads, old.opt_state, old.params)
    return old._replace(params=params, opt_state=opt_state), explained
