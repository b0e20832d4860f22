"""Policies that are fitted to the actions of a dataset: how likely these are, and how to act."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from purejaxrl.parts import networks
from purejaxrl.parts.continuous import num_dims
from purejaxrl.parts.normalize import Moments, normalize_obs

LOG_STD = -20.0, 2.0
"""Least and greatest logarithm of a Gaussian's standard deviation."""


class Fitted(NamedTuple):
    """What acting needs: parameters, and the moments that standardise observations."""

    params: Any
    moments: Moments | None


class Policy(Protocol):
    """A distribution over actions, as functions of parameters and observations."""

    def init(self, key: jax.Array, obs: Any) -> Any:
        """Draw parameters."""

    def log_prob(self, params: Any, obs: Any, action: jax.Array) -> jax.Array:
        """Return the log-probabilities of actions, `[...]`."""

    def mode(self, params: Any, obs: Any) -> jax.Array:
        """Return the most likely actions."""

    def sample(self, params: Any, obs: Any, key: jax.Array) -> jax.Array:
        """Sample actions."""


class Categorical:
    """A softmax over a finite number of actions."""

    def __init__(self, env: Any, torso: nn.Module | None):
        """Make the network."""
        space = env.observation_space(env.default_params)
        num_actions = networks.num_actions(env.action_space(env.default_params))
        self.network = networks.readout(space, torso, num_actions, 0.01)
        self.init = self.network.init

    def log_prob(self, params: Any, obs: Any, action: jax.Array) -> jax.Array:
        """Return the log-probabilities of actions, `[...]`."""
        return networks.categorical(self.network.apply(params, obs)).log_prob(action)

    def mode(self, params: Any, obs: Any) -> jax.Array:
        """Return the most likely actions."""
        return self.network.apply(params, obs).argmax(-1).astype(jnp.int32)

    def sample(self, params: Any, obs: Any, key: jax.Array) -> jax.Array:
        """Sample actions."""
        return networks.categorical(self.network.apply(params, obs)).sample(seed=key)


class Deterministic:
    """One action in [-1, 1] for each observation: the tanh of a network's output.

    Its likelihood is that of a Gaussian with unit variance, so that to maximise it is to minimise
    the squared error.
    """

    def __init__(self, env: Any, torso: nn.Module | None):
        """Make the network."""
        space = env.observation_space(env.default_params)
        network = networks.readout(space, torso, num_dims(env), 0.01)
        self.network = nn.Sequential([network, jnp.tanh])
        self.init = self.network.init

    def log_prob(self, params: Any, obs: Any, action: jax.Array) -> jax.Array:
        """Return the log-densities of actions, `[...]`."""
        return norm.logpdf(action, self.mode(params, obs), 1.0).sum(-1)

    def mode(self, params: Any, obs: Any) -> jax.Array:
        """Return the action."""
        return self.network.apply(params, obs)

    def sample(self, params: Any, obs: Any, key: jax.Array) -> jax.Array:
        """Return the action."""
        return self.mode(params, obs)


class TanhMean(nn.Module):
    """Observations to the mean, in (-1, 1), and the log standard deviations of a Gaussian."""

    network: nn.Module
    size: int

    @nn.compact
    def __call__(self, obs: Any) -> tuple[jax.Array, jax.Array]:  # noqa: D102
        log_std = self.param("log_std", nn.initializers.zeros, (self.size,))
        return jnp.tanh(self.network(obs)), jnp.clip(log_std, *LOG_STD)


class Gaussian:
    """A Gaussian whose mean is in (-1, 1), and whose deviation does not depend on the state.

    Samples are clipped to [-1, 1]. This is the policy of IQL (Kostrikov et al. 2021).
    """

    def __init__(self, env: Any, torso: nn.Module | None):
        """Make the network."""
        space, size = env.observation_space(env.default_params), num_dims(env)
        self.network = TanhMean(networks.readout(space, torso, size, 0.01), size)
        self.init = self.network.init

    def log_prob(self, params: Any, obs: Any, action: jax.Array) -> jax.Array:
        """Return the log-densities of actions, `[...]`."""
        mean, log_std = self.network.apply(params, obs)
        return norm.logpdf(action, mean, jnp.exp(log_std)).sum(-1)

    def mode(self, params: Any, obs: Any) -> jax.Array:
        """Return the mean."""
        return self.network.apply(params, obs)[0]

    def sample(self, params: Any, obs: Any, key: jax.Array) -> jax.Array:
        """Sample actions."""
        mean, log_std = self.network.apply(params, obs)
        noise = jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        return jnp.clip(mean + noise, -1.0, 1.0)


def act_by(pi: Policy) -> Callable[..., tuple[jax.Array, Any]]:
    """Make an algorithm's `act` of a policy whose parameters are `Fitted`."""

    def act(policy: Fitted, memory, obs, first, key, greedy: bool):
        obs = normalize_obs(policy.moments, obs)
        if greedy:
            return pi.mode(policy.params, obs), memory
        return pi.sample(policy.params, obs, key), memory

    return act


def log_prob_by(pi: Policy, policy_of: Callable[[Any], Fitted]) -> Callable[..., tuple]:
    """Make an algorithm's `log_prob` of a policy; `policy_of` is its `policy`.

    It reads `obs` and `action` of a batch, as they are in the dataset.
    """

    def log_prob(state: Any, batch: Any) -> tuple[jax.Array, dict]:
        params, moments = policy_of(state)
        return pi.log_prob(params, normalize_obs(moments, batch.obs), batch.action), {}

    return log_prob
