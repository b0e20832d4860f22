"""What SAC must know about actions, continuous or discrete.

SAC averages over the policy's actions in a state. For continuous actions it takes one sample. For
discrete ones it takes all of them, weighted by their probabilities (Christodoulou 2019).
"""

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.parts import networks
from purejaxrl.parts.continuous import TanhGaussian
from purejaxrl.parts.critics import ContinuousCritics, DiscreteCritics, apply_twins


class Considered(NamedTuple):
    """The actions over which SAC averages in a state, float32 `[..., num_considered]`."""

    weight: jax.Array  # they add up to 1
    log_prob: jax.Array
    q: jax.Array  # the lower value of the two critics

    @property
    def entropy(self) -> jax.Array:
        """Estimate of the policy's entropy, `[...]`."""
        return -(self.weight * self.log_prob).sum(-1)

    def soft_value(self, alpha: jax.Array) -> jax.Array:
        """Value of the state, with the entropy bonus α, `[...]`."""
        return (self.weight * self.q).sum(-1) + alpha * self.entropy


class Actions(Protocol):
    """Actor and critics for one kind of actions."""

    actor: nn.Module
    critics: ContinuousCritics | DiscreteCritics
    entropy_unit: float  # what a target entropy of 1 is, in nats

    def consider(self, actor: Any, critic: Any, obs: jax.Array, key: jax.Array) -> Considered:
        """Return the policy's actions in each state, and their values."""

    def sample(self, actor: Any, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sample actions; also return them as `log_prob` reads them."""

    def mode(self, actor: Any, obs: jax.Array) -> jax.Array:
        """Return the most likely actions."""

    def log_prob(self, actor: Any, obs: jax.Array, sampled: jax.Array) -> tuple[jax.Array, Any]:
        """Return the log-probabilities of what `sample` returned second, and the entropy."""


class ContinuousActions:
    """Actions in [-1, 1], from a Gaussian through tanh."""

    def __init__(self, torso: nn.Module, env: Any):
        """Make the networks.

        Raises:
            ValueError: if actions are not in [-1, 1], or observations are not vectors.
        """
        self.critics = ContinuousCritics(env, torso)
        self.entropy_unit = float(self.critics.num_dims)
        self.actor = nn.Sequential([torso, networks.dense(2 * self.critics.num_dims, 0.01)])

    def policy(self, actor: Any, obs: jax.Array) -> TanhGaussian:
        """Return the distribution over actions."""
        return TanhGaussian.of(self.actor.apply(actor, obs))

    def consider(self, actor: Any, critic: Any, obs: jax.Array, key: jax.Array) -> Considered:
        """Return a sample of the policy in each state."""
        pi = self.policy(actor, obs)
        before = pi.sample(key)
        log_prob, q = pi.log_prob(before), self.critics.q(critic, obs, jnp.tanh(before)).min(0)
        return Considered(jnp.ones_like(q)[..., None], log_prob[..., None], q[..., None])

    def sample(self, actor: Any, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sample actions; also return them as they are before the tanh."""
        before = self.policy(actor, obs).sample(key)
        return jnp.tanh(before), before

    def mode(self, actor: Any, obs: jax.Array) -> jax.Array:
        """Return the action of the Gaussian's mean."""
        return self.policy(actor, obs).mode()

    def log_prob(self, actor: Any, obs: jax.Array, sampled: jax.Array) -> tuple[jax.Array, Any]:
        """Return the log-densities of actions, and the mean entropy that they estimate."""
        log_prob = self.policy(actor, obs).log_prob(sampled)
        return log_prob, -log_prob.mean()


class DiscreteActions:
    """A finite number of actions."""

    def __init__(self, torso: nn.Module, env: Any):
        """Make the networks.

        Raises:
            ValueError: if actions are not discrete.
        """
        self.critics = DiscreteCritics(env, torso)
        num_actions = networks.num_actions(env.action_space(env.default_params))
        self.entropy_unit = float(jnp.log(num_actions))
        self.actor = nn.Sequential([torso, networks.dense(num_actions, 0.01)])

    def consider(self, actor: Any, critic: Any, obs: jax.Array, key: jax.Array) -> Considered:
        """Return all actions in each state."""
        log_prob = jax.nn.log_softmax(self.actor.apply(actor, obs))
        q = apply_twins(self.critics.network, critic, obs).min(0)
        return Considered(jnp.exp(log_prob), log_prob, q)

    def sample(self, actor: Any, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sample actions; also return them as they are."""
        action = networks.categorical(self.actor.apply(actor, obs)).sample(seed=key)
        return action, action

    def mode(self, actor: Any, obs: jax.Array) -> jax.Array:
        """Return the most likely actions."""
        return self.actor.apply(actor, obs).argmax(-1).astype(jnp.int32)

    def log_prob(self, actor: Any, obs: jax.Array, sampled: jax.Array) -> tuple[jax.Array, Any]:
        """Return the log-probabilities of actions, and the mean entropy."""
        pi = networks.categorical(self.actor.apply(actor, obs))
        return pi.log_prob(sampled), pi.entropy().mean()
