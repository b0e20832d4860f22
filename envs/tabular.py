"""Random finite MDPs, and the exact optimum of an episode.

A Garnet (Archibald et al. 1995; as in Bhatnagar et al. 2009) has `branching` distinct successors
for every state and action, drawn without replacement. Uniform cuts divide [0, 1] into their
probabilities. Mean rewards are standard normal. With `branching == num_states` the rows of the
transition matrix are uniform on the simplex: a dense random MDP.

The best policy of an episode depends on the time, and an agent observes the state's index alone. So
it may be unable to reach the optimum.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl.validation import require, require_count


@struct.dataclass
class Level:
    """A finite MDP with S states and A actions."""

    transition: jax.Array  # float32 [S, A, S], probabilities of the next state
    reward: jax.Array  # float32 [S, A], means
    reward_std: jax.Array  # float32, standard deviation of the Gaussian noise on every reward
    start_prob: jax.Array  # float32 [S]
    terminate_prob: jax.Array  # float32, per step; or [S, A], by state and action
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class TabularState:
    """Where the agent is."""

    index: jax.Array  # int32, the state of the MDP
    time: jax.Array  # int32, steps since the reset


class Garnet(environment.Environment):
    """A finite MDP; `sample_level` draws Garnets, but any `Level` of these shapes is valid."""

    name = "garnet"

    def __init__(
        self,
        num_states: int = 20,
        num_actions: int = 4,
        branching: int = 3,
        reward_std: float = 0.0,
        terminate_prob: float = 0.0,
        max_steps_in_episode: int = 100,
    ):
        """Make an environment for MDPs of one size.

        Args:
            num_states, num_actions: S and A.
            branching: number of possible next states of every state and action.
            reward_std, terminate_prob, max_steps_in_episode: see `Level`; for sampled levels.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__()
        self.num_states, self._num_actions, self.branching = num_states, num_actions, branching
        self.reward_std, self.terminate_prob = reward_std, terminate_prob
        self.max_steps_in_episode = max_steps_in_episode
        require_count(self, "num_states", "num_actions", "branching", "max_steps_in_episode")
        require(branching <= num_states, self, "branching", f"at most num_states, {num_states}")
        require(0 <= reward_std < math.inf, self, "reward_std", "a finite number >= 0")
        require(0 <= terminate_prob <= 1, self, "terminate_prob", "in [0, 1]")

    def sample_level(self, key: jax.Array) -> Level:
        """Draw a Garnet with uniform start states."""
        order_key, cut_key, reward_key = jax.random.split(key, 3)
        rows = (self.num_states, self.num_actions)

        order = jax.random.uniform(order_key, (*rows, self.num_states))
        _, successors = jax.lax.top_k(order, self.branching)
        cuts = jnp.sort(jax.random.uniform(cut_key, (*rows, self.branching - 1)))
        ends = jnp.zeros((*rows, 1)), jnp.ones((*rows, 1))
        probs = jnp.diff(jnp.concatenate([ends[0], cuts, ends[1]], axis=-1))
        transition = jnp.zeros((*rows, self.num_states))

        return Level(
            transition=jnp.put_along_axis(transition, successors, probs, -1, inplace=False),
            reward=jax.random.normal(reward_key, rows),
            reward_std=jnp.float32(self.reward_std),
            start_prob=jnp.full(self.num_states, 1 / self.num_states),
            terminate_prob=jnp.float32(self.terminate_prob),
            max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
        )

    def optimal_return(self, params: Level) -> jax.Array:
        """Return the expected undiscounted return of the best policy over time, float32."""
        return optimal_return(params)

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, TabularState]:
        """Draw the first state."""
        index = jax.random.choice(key, self.num_states, p=params.start_prob)
        state = TabularState(index, jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: TabularState, action: jax.Array, params: Level):
        """Draw the reward, the next state, and whether the episode ends there."""
        reward_key, index_key, end_key = jax.random.split(key, 3)
        noise = params.reward_std * jax.random.normal(reward_key)
        reward = params.reward[state.index, action] + noise
        probs = params.transition[state.index, action]
        index = jax.random.choice(index_key, self.num_states, p=probs)
        terminate_prob = jnp.broadcast_to(params.terminate_prob, params.reward.shape)
        terminated = jax.random.bernoulli(end_key, terminate_prob[state.index, action])

        state = TabularState(index, state.time + 1)
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, reward, terminated, {}

    def is_truncated(self, state: TabularState, params: Level) -> jax.Array:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def observe(self, state: TabularState, params: Level) -> jax.Array:
        """Index of the state, int32 `[]`."""
        return state.index

    @property
    def num_actions(self) -> int:
        """A."""
        return self._num_actions

    @property
    def default_params(self) -> Level:
        """One of the sampled levels."""
        return self.sample_level(jax.random.key(0))

    def action_space(self, params: Level | None = None) -> spaces.Discrete:
        """A actions."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: Level | None = None) -> spaces.Discrete:
        """S states."""
        return spaces.Discrete(self.num_states)


def optimal_return(level: Level) -> jax.Array:
    """Return the expected undiscounted return of the best policy over time, float32.

    Only rewards up to the level's time limit count.
    """

    def backup(_: int, value: jax.Array) -> jax.Array:
        later = (1 - level.terminate_prob) * _matmul(level.transition, value)
        return (level.reward + later).max(-1)

    nothing = jnp.zeros(level.reward.shape[0])
    value = jax.lax.fori_loop(0, level.max_steps_in_episode, backup, nothing)
    return _matmul(level.start_prob, value)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")  # TF32 would not be exact
