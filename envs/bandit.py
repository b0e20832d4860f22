"""Bandits: a step is a pull, and an episode is a fixed number of pulls.

The observation is the index of the context, always 0 without contexts. A pull does not change what
follows it.

The time limit truncates, because it is not observed and no pull changes the value of the future: an
agent that bootstraps at the limit adds the same value to every arm. With termination, the value
would depend on the unobserved time.

`optimal_return` is that of an oracle that knows the means at every pull; regret is measured by it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from jax.scipy.special import ndtr

from purejaxrl.validation import require, require_count


@struct.dataclass
class Level:
    """The arms of a bandit."""

    means: jax.Array  # float32 [num_arms], expected rewards
    max_steps_in_episode: jax.Array  # int32, pulls


@struct.dataclass
class GaussianLevel(Level):
    """Arms with Gaussian rewards."""

    std: jax.Array  # float32 [num_arms]


@struct.dataclass
class ContextualLevel(GaussianLevel):
    """Arms with a mean for every context, `[num_contexts, num_arms]`; each pull draws a context."""

    context_prob: jax.Array  # float32 [num_contexts]


@struct.dataclass
class NonStationaryLevel(Level):
    """Arms whose means change with every pull; `means` are those of the first pull."""

    walk_std: jax.Array  # float32, standard deviation of a Gaussian walk reflected at 0 and 1
    switch_prob: jax.Array  # float32, probability of a new mean, uniform in [0, 1]


@struct.dataclass
class BanditState:
    """The arms and the context of the next pull."""

    means: jax.Array  # float32 [num_arms]
    context: jax.Array  # int32
    time: jax.Array  # int32, pulls since the reset


class Bandit(environment.Environment):
    """What all bandits share. Subclasses draw levels and rewards, and may change the arms."""

    num_contexts = 1

    def __init__(self, num_arms: int = 10, max_steps_in_episode: int = 100):
        """Make an environment.

        Args:
            num_arms: number of actions.
            max_steps_in_episode: pulls in an episode of a sampled level.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__()
        self.num_arms, self.max_steps_in_episode = num_arms, max_steps_in_episode
        require_count(self, "num_arms", "max_steps_in_episode")

    @property
    def means_shape(self) -> tuple[int, ...]:
        """Shape of a level's means."""
        return (self.num_arms,)

    def sample_level(self, key: jax.Array) -> Level:
        """Draw a level."""
        raise NotImplementedError

    def pay(self, key: jax.Array, mean: jax.Array, action: jax.Array, params: Level) -> jax.Array:
        """Draw a reward, float32, given its mean."""
        raise NotImplementedError

    def begin(self, key: jax.Array, params: Level) -> tuple[jax.Array, jax.Array]:
        """Return means and context of the first pull."""
        return params.means, jnp.int32(0)

    def change(self, key: jax.Array, state: BanditState, params: Level):
        """Return means and context of the next pull."""
        return state.means, state.context

    def optimal_return(self, params: Level) -> jax.Array:
        """Return the oracle's expected undiscounted return of an episode, float32."""
        return params.max_steps_in_episode * params.means.max()

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, BanditState]:
        """Start an episode."""
        state = BanditState(*self.begin(key, params), time=jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: BanditState, action: jax.Array, params: Level):
        """Pull an arm; never terminates."""
        pay_key, change_key = jax.random.split(key)
        reward = self.pay(pay_key, state.means[action], action, params)
        state = BanditState(*self.change(change_key, state, params), time=state.time + 1)
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, reward, jnp.bool_(False), {}

    def is_truncated(self, state: BanditState, params: Level) -> jax.Array:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def observe(self, state: BanditState, params: Level) -> jax.Array:
        """Index of the context, int32 `[]`."""
        return state.context

    @property
    def num_actions(self) -> int:
        """Number of arms."""
        return self.num_arms

    @property
    def default_params(self) -> Level:
        """One of the sampled levels."""
        return self.sample_level(jax.random.key(0))

    def action_space(self, params: Level | None = None) -> spaces.Discrete:
        """One action for each arm."""
        return spaces.Discrete(self.num_arms)

    def observation_space(self, params: Level | None = None) -> spaces.Discrete:
        """One observation for each context."""
        return spaces.Discrete(self.num_contexts)


class BernoulliBandit(Bandit):
    """Arms that pay 1 or 0; sampled levels have uniform means."""

    name = "bernoulli_bandit"

    def sample_level(self, key: jax.Array) -> Level:
        """Draw means from [0, 1]."""
        means = jax.random.uniform(key, self.means_shape)
        return Level(means, jnp.int32(self.max_steps_in_episode))

    def pay(self, key: jax.Array, mean: jax.Array, action: jax.Array, params: Level) -> jax.Array:
        """Draw 1 or 0."""
        return jax.random.bernoulli(key, mean).astype(jnp.float32)


class GaussianBandit(Bandit):
    """Arms with Gaussian rewards; sampled levels are the testbed of Sutton & Barto (2018, 2.3)."""

    name = "gaussian_bandit"

    def sample_level(self, key: jax.Array) -> GaussianLevel:
        """Draw standard normal means; the rewards' standard deviation is 1."""
        means = jax.random.normal(key, self.means_shape)
        std = jnp.ones(self.num_arms)
        return GaussianLevel(means, jnp.int32(self.max_steps_in_episode), std)

    def pay(self, key, mean: jax.Array, action: jax.Array, params: GaussianLevel) -> jax.Array:
        """Draw from a normal distribution."""
        return mean + params.std[action] * jax.random.normal(key)


class ContextualBandit(GaussianBandit):
    """Gaussian arms whose means depend on a context, which is observed before the pull."""

    name = "contextual_bandit"

    def __init__(self, num_contexts: int = 5, num_arms: int = 10, max_steps_in_episode: int = 100):
        """Make an environment.

        Args:
            num_contexts: number of observations.
            num_arms: number of actions.
            max_steps_in_episode: pulls in an episode of a sampled level.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__(num_arms, max_steps_in_episode)
        self.num_contexts = num_contexts
        require_count(self, "num_contexts")

    @property
    def means_shape(self) -> tuple[int, int]:
        """Shape of a level's means."""
        return (self.num_contexts, self.num_arms)

    def sample_level(self, key: jax.Array) -> ContextualLevel:
        """Draw standard normal means; the contexts are equally likely."""
        arms = super().sample_level(key)
        context_prob = jnp.full(self.num_contexts, 1 / self.num_contexts)
        return ContextualLevel(arms.means, arms.max_steps_in_episode, arms.std, context_prob)

    def begin(self, key: jax.Array, params: ContextualLevel) -> tuple[jax.Array, jax.Array]:
        """Draw a context."""
        context = jax.random.choice(key, self.num_contexts, p=params.context_prob)
        return params.means[context], context

    def change(self, key: jax.Array, state: BanditState, params: ContextualLevel):
        """Draw another context."""
        return self.begin(key, params)

    def optimal_return(self, params: ContextualLevel) -> jax.Array:
        """Return the expected return of the best arm in every context, float32."""
        return params.max_steps_in_episode * jnp.sum(params.context_prob * params.means.max(-1))


class NonStationaryBandit(BernoulliBandit):
    """Bernoulli arms whose means drift, switch, or both, independently of each other.

    The walk is reflected at 0 and 1. Unlike a clipped walk it does not stick to the ends, it keeps
    a uniform distribution uniform, and its distribution is known at every time.
    """

    name = "non_stationary_bandit"

    def __init__(
        self,
        num_arms: int = 10,
        max_steps_in_episode: int = 100,
        walk_std: float = 0.05,
        switch_prob: float = 0.0,
    ):
        """Make an environment.

        Args:
            num_arms: number of actions.
            max_steps_in_episode, walk_std, switch_prob: see `NonStationaryLevel`.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__(num_arms, max_steps_in_episode)
        self.walk_std, self.switch_prob = walk_std, switch_prob
        require(0 <= walk_std < math.inf, self, "walk_std", "a finite number >= 0")
        require(0 <= switch_prob <= 1, self, "switch_prob", "in [0, 1]")

    def sample_level(self, key: jax.Array) -> NonStationaryLevel:
        """Draw the first means uniformly from [0, 1]."""
        arms, rates = super().sample_level(key), (self.walk_std, self.switch_prob)
        return NonStationaryLevel(arms.means, arms.max_steps_in_episode, *map(jnp.float32, rates))

    def change(self, key: jax.Array, state: BanditState, params: NonStationaryLevel):
        """Move all means, and replace some."""
        walk_key, switch_key, mean_key = jax.random.split(key, 3)
        walked = state.means + params.walk_std * jax.random.normal(walk_key, self.means_shape)
        walked = jnp.abs((walked + 1) % 2 - 1)  # reflected at 0 and 1
        switched = jax.random.bernoulli(switch_key, params.switch_prob, self.means_shape)
        drawn = jax.random.uniform(mean_key, self.means_shape)
        return jnp.where(switched, drawn, walked), state.context

    def optimal_return(self, params: NonStationaryLevel) -> jax.Array:
        """Return the expected return of always pulling the best arm, float32.

        It is the sum over pulls of E[max mean] = ∫ 1 - Π_arm P(mean <= x) dx over [0, 1], by
        quadrature between the first means, where the integrand may jump. The error is at most 1e-4
        a pull, and mostly that of float32.
        """
        nodes, weights = np.polynomial.legendre.leggauss(64)
        ends = jnp.concatenate([jnp.zeros(1), jnp.sort(params.means), jnp.ones(1)])
        width = jnp.diff(ends)[:, None]
        x = ends[:-1, None] + width * jnp.float32((nodes + 1) / 2)
        weights = width * jnp.float32(weights / 2)

        def add(time: jax.Array, total: jax.Array) -> jax.Array:
            best_is_below = mean_cdf(params, time, x).prod(0)
            return total + jnp.sum(weights * (1 - best_is_below))

        return jax.lax.fori_loop(0, params.max_steps_in_episode, add, jnp.float32(0))


def mean_cdf(level: NonStationaryLevel, time: jax.Array, x: jax.Array) -> jax.Array:
    """Probability that an arm's mean is at most x after `time` pulls: float32 `[num_arms, *x]`.

    An arm that has switched is and stays uniform. The others have made a reflected Gaussian walk:
    a sum over mirror images at distances of 2.
    """
    # from a standard deviation of 2 on, the walk is uniform to 1e-8, so more images change nothing
    std = jnp.clip(level.walk_std * jnp.sqrt(time), 1e-6, 2.0)
    distance = 2 * jnp.arange(-6, 7) - level.means.reshape(-1, *[1] * (x.ndim + 1))
    upper, lower = (distance + sign * x[..., None] for sign in (1, -1))
    walked = jnp.sum(ndtr(upper / std) - ndtr(lower / std), axis=-1)
    stayed = (1 - level.switch_prob) ** time
    return stayed * walked + (1 - stayed) * x
