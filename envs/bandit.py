"""Bandits: a step is a pull, an episode a lifetime of pulls.

The observation is the index of the context, 0 where there is only one. No pull changes what comes
after it.

The time limit truncates. It belongs to the experiment and not to the problem: the time is not
observed, and from any of these states the future is worth the same whatever was pulled. An agent
that bootstraps over the limit adds the same to every arm there, as it does everywhere else; one
that were told of termination would have to learn a value that depends on the unseen time.

`optimal_return` is that of an oracle that knows the arms' means as they are at each pull; a learner
can only approach it, and the difference is its regret.
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
    """Arms."""

    means: jax.Array  # float32 [num_arms], expected rewards
    max_steps_in_episode: jax.Array  # int32, pulls


@struct.dataclass
class GaussianLevel(Level):
    """Arms with Gaussian rewards."""

    std: jax.Array  # float32 [num_arms]


@struct.dataclass
class ContextualLevel(GaussianLevel):
    """Arms whose means `[num_contexts, num_arms]` depend on a context, drawn for every pull."""

    context_prob: jax.Array  # float32 [num_contexts]


@struct.dataclass
class NonStationaryLevel(Level):
    """Arms whose means, those of the first pull, change from one pull to the next."""

    walk_std: jax.Array  # float32, of a Gaussian random walk in [0, 1], reflected at the ends
    switch_prob: jax.Array  # float32, that an arm's mean is drawn anew, uniformly from [0, 1]


@struct.dataclass
class BanditState:
    """What the next pull meets."""

    means: jax.Array  # float32 [num_arms]
    context: jax.Array  # int32
    time: jax.Array  # int32, pulls since the reset


class Bandit(environment.Environment):
    """What all bandits share; here arms stay as they are. Subclasses say how they are paid."""

    num_contexts = 1

    def __init__(self, num_arms: int = 10, max_steps_in_episode: int = 100):
        """Make an environment.

        Args:
            num_arms: number of actions.
            max_steps_in_episode: pulls, of sampled levels.

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
        """Means and context of the first pull."""
        return params.means, jnp.int32(0)

    def change(self, key: jax.Array, state: BanditState, params: Level):
        """Means and context of the next pull."""
        return state.means, state.context

    def check(self, level: Level) -> Level:
        """Return a concrete level if it is valid.

        Raises:
            ValueError: naming the field that is not valid.
        """
        values = jax.tree.map(np.asarray, level)
        shape = self.means_shape
        require(values.means.shape == shape, values, "means", f"of shape {shape}")
        require(bool(np.isfinite(values.means).all()), values, "means", "finite")
        require(values.max_steps_in_episode >= 1, values, "max_steps_in_episode", "at least 1")
        return level

    def optimal_return(self, params: Level) -> jax.Array:
        """Expected return of an episode of the oracle, undiscounted, float32."""
        return params.max_steps_in_episode * params.means.max()

    def optimal_action(self, state: BanditState, params: Level) -> jax.Array:
        """Return the arm of the highest mean, int32."""
        return state.means.argmax().astype(jnp.int32)

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, BanditState]:
        """Begin a lifetime."""
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
        """Whether all pulls are made."""
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
        """One action an arm."""
        return spaces.Discrete(self.num_arms)

    def observation_space(self, params: Level | None = None) -> spaces.Discrete:
        """Contexts."""
        return spaces.Discrete(self.num_contexts)


class BernoulliBandit(Bandit):
    """Arms that pay 1 or 0; sampled levels have uniform means."""

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "bernoulli_bandit"

    def sample_level(self, key: jax.Array) -> Level:
        """Draw means from [0, 1]."""
        means = jax.random.uniform(key, self.means_shape)
        return Level(means, jnp.int32(self.max_steps_in_episode))

    def check(self, level: Level) -> Level:
        """Return a concrete level if it is valid."""
        values = jax.tree.map(np.asarray, super().check(level))
        require(bool(_are_probs(values.means)), values, "means", "in [0, 1]")
        return level

    def pay(self, key: jax.Array, mean: jax.Array, action: jax.Array, params: Level) -> jax.Array:
        """Draw 1 or 0."""
        return jax.random.bernoulli(key, mean).astype(jnp.float32)


class GaussianBandit(Bandit):
    """Arms with Gaussian rewards; sampled levels are the testbed of Sutton & Barto (2018, 2.3)."""

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "gaussian_bandit"

    def sample_level(self, key: jax.Array) -> GaussianLevel:
        """Draw standard normal means; the rewards' standard deviation is 1."""
        means = jax.random.normal(key, self.means_shape)
        std = jnp.ones(self.num_arms)
        return GaussianLevel(means, jnp.int32(self.max_steps_in_episode), std)

    def check(self, level: GaussianLevel) -> GaussianLevel:
        """Return a concrete level if it is valid."""
        values = jax.tree.map(np.asarray, super().check(level))
        shape = (self.num_arms,)
        require(values.std.shape == shape, values, "std", f"of shape {shape}")
        valid = (values.std >= 0) & (values.std < math.inf)
        require(bool(valid.all()), values, "std", "finite and >= 0")
        return level

    def pay(self, key, mean: jax.Array, action: jax.Array, params: GaussianLevel) -> jax.Array:
        """Draw from a normal distribution."""
        return mean + params.std[action] * jax.random.normal(key)


class ContextualBandit(GaussianBandit):
    """Gaussian arms whose means are looked up by a context, which is observed before the pull."""

    def __init__(self, num_contexts: int = 5, num_arms: int = 10, max_steps_in_episode: int = 100):
        """Make an environment.

        Args:
            num_contexts: number of observations.
            num_arms: number of actions.
            max_steps_in_episode: pulls, of sampled levels.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__(num_arms, max_steps_in_episode)
        self.num_contexts = num_contexts
        require_count(self, "num_contexts")

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "contextual_bandit"

    @property
    def means_shape(self) -> tuple[int, int]:
        """Shape of a level's means."""
        return (self.num_contexts, self.num_arms)

    def sample_level(self, key: jax.Array) -> ContextualLevel:
        """Draw standard normal means; the contexts are equally likely."""
        arms = super().sample_level(key)
        context_prob = jnp.full(self.num_contexts, 1 / self.num_contexts)
        return ContextualLevel(arms.means, arms.max_steps_in_episode, arms.std, context_prob)

    def check(self, level: ContextualLevel) -> ContextualLevel:
        """Return a concrete level if it is valid."""
        values = jax.tree.map(np.asarray, super().check(level))
        shape, probs = (self.num_contexts,), values.context_prob
        require(probs.shape == shape, values, "context_prob", f"of shape {shape}")
        is_simplex = _are_probs(probs) and abs(probs.sum() - 1) < 1e-4
        require(bool(is_simplex), values, "context_prob", ">= 0 and sum to 1")
        return level

    def begin(self, key: jax.Array, params: ContextualLevel) -> tuple[jax.Array, jax.Array]:
        """Draw a context."""
        context = jax.random.choice(key, self.num_contexts, p=params.context_prob)
        return params.means[context], context

    def change(self, key: jax.Array, state: BanditState, params: ContextualLevel):
        """Draw another context."""
        return self.begin(key, params)

    def optimal_return(self, params: ContextualLevel) -> jax.Array:
        """Expected return of an episode of the best arm in every context, float32."""
        return params.max_steps_in_episode * jnp.sum(params.context_prob * params.means.max(-1))


class NonStationaryBandit(BernoulliBandit):
    """Bernoulli arms whose means drift, switch, or both, each on its own.

    The walk is reflected at 0 and 1: unlike a clipped one it does not stick to the ends, keeps the
    uniform distribution that switches draw from, and has a known law at every time.
    """

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
            max_steps_in_episode, walk_std, switch_prob: of sampled levels.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__(num_arms, max_steps_in_episode)
        self.walk_std, self.switch_prob = walk_std, switch_prob
        require(0 <= walk_std < math.inf, self, "walk_std", "a finite number >= 0")
        require(0 <= switch_prob <= 1, self, "switch_prob", "in [0, 1]")

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "non_stationary_bandit"

    def sample_level(self, key: jax.Array) -> NonStationaryLevel:
        """Draw the first means from [0, 1]."""
        arms, rates = super().sample_level(key), (self.walk_std, self.switch_prob)
        return NonStationaryLevel(arms.means, arms.max_steps_in_episode, *map(jnp.float32, rates))

    def check(self, level: NonStationaryLevel) -> NonStationaryLevel:
        """Return a concrete level if it is valid."""
        values = jax.tree.map(np.asarray, super().check(level))
        require(0 <= values.walk_std < math.inf, values, "walk_std", "a finite number >= 0")
        require(0 <= values.switch_prob <= 1, values, "switch_prob", "in [0, 1]")
        return level

    def change(self, key: jax.Array, state: BanditState, params: NonStationaryLevel):
        """Walk, and switch some."""
        walk_key, switch_key, mean_key = jax.random.split(key, 3)
        walked = state.means + params.walk_std * jax.random.normal(walk_key, self.means_shape)
        walked = jnp.abs((walked + 1) % 2 - 1)  # reflected at 0 and 1
        switched = jax.random.bernoulli(switch_key, params.switch_prob, self.means_shape)
        drawn = jax.random.uniform(mean_key, self.means_shape)
        return jnp.where(switched, drawn, walked), state.context

    def optimal_return(self, params: NonStationaryLevel) -> jax.Array:
        """Expected return of an episode of always pulling the arm that is best at the time.

        The sum over pulls of E[max mean] = ∫ 1 - Π_arm P(mean <= x) dx over [0, 1], by quadrature
        between the first means, where the integrand may jump: exact to 1e-4 a pull, and mostly to
        float32.
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

    An arm that has switched is uniform, and stays so. The others have made a Gaussian walk, seen
    through mirrors at 0 and 1: a sum over images, at distances of 2.
    """
    # from a standard deviation of 2 on the walk is uniform to 1e-8, and needs no more images
    std = jnp.clip(level.walk_std * jnp.sqrt(time), 1e-6, 2.0)
    distance = 2 * jnp.arange(-6, 7) - level.means.reshape(-1, *[1] * (x.ndim + 1))
    upper, lower = (distance + sign * x[..., None] for sign in (1, -1))
    walked = jnp.sum(ndtr(upper / std) - ndtr(lower / std), axis=-1)
    stayed = (1 - level.switch_prob) ** time
    return stayed * walked + (1 - stayed) * x


def _are_probs(values: np.ndarray) -> np.ndarray:
    return ((values >= 0) & (values <= 1)).all()
