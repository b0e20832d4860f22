"""Random finite MDPs, and their exact solution.

A Garnet (Archibald et al. 1995; as in Bhatnagar et al. 2009) has `branching` distinct successors
for every state and action, drawn without replacement. Uniform cuts divide [0, 1] into their
probabilities. Mean rewards are standard normal. With `branching == num_states` the rows of the
transition matrix are uniform on the simplex: a dense random MDP.

Two optima are exact. `solve` is for the discounted problem without a time limit, where the best
policy is stationary. `solve_episode` is for the episode up to its limit, where the best policy
depends on the time. The observation is the state's index without the time, so an agent may be
unable to reach the second optimum.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl.validation import require, require_count

NUM_DOUBLINGS = 25
"""A policy is evaluated over 2**25 steps, enough for discounts of up to 1 - 1e-6."""


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

    def check(self, level: Level) -> Level:
        """Return a concrete level if it is valid.

        Raises:
            ValueError: naming the field, or the row of `transition`, that is not valid.
        """
        values = jax.tree.map(np.asarray, level)
        shapes = {
            "transition": (self.num_states, self.num_actions, self.num_states),
            "reward": (self.num_states, self.num_actions),
            "start_prob": (self.num_states,),
        }
        for field, shape in shapes.items():
            found = getattr(values, field).shape
            if found != shape:
                raise ValueError(f"Level.{field}: shape {found} is not valid; it must be {shape}")
        require(bool(_is_simplex(values.start_prob)), values, "start_prob", ">= 0 and sum to 1")
        for state, action in np.argwhere(~_is_simplex(values.transition))[:1]:
            raise ValueError(
                f"Level.transition: row (state {state}, action {action}) is not valid; "
                "it must be >= 0 and sum to 1"
            )
        require(bool(np.isfinite(values.reward).all()), values, "reward", "finite")
        require(0 <= values.reward_std < math.inf, values, "reward_std", "a finite number >= 0")
        shape, rates = values.terminate_prob.shape, values.terminate_prob
        if shape not in ((), shapes["reward"]):
            raise ValueError(
                f"Level.terminate_prob: shape {shape} is not valid; it must be () or "
                f"{shapes['reward']}"
            )
        valid = bool(((rates >= 0) & (rates <= 1)).all())
        require(valid, values, "terminate_prob", "in [0, 1]")
        require(values.max_steps_in_episode >= 1, values, "max_steps_in_episode", "at least 1")
        return level

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
        terminate_prob = _by_state_and_action(params)[state.index, action]
        terminated = jax.random.bernoulli(end_key, terminate_prob)

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
    def name(self) -> str:
        """Name of the environment."""
        return "garnet"

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


class Solution(NamedTuple):
    """An optimum: `[S]`, or `[num_steps, S]` if it depends on the time."""

    value: jax.Array  # float32, expected return from a state
    policy: jax.Array  # int32, the best action


def optimal_return(level: Level) -> jax.Array:
    """Return the expected undiscounted return of the best policy over time, float32.

    Only rewards up to the level's time limit count.
    """
    value = jax.lax.fori_loop(
        0,
        level.max_steps_in_episode,
        lambda _, value: action_values(level, value, 1.0).max(-1),
        jnp.zeros(level.reward.shape[0]),
    )
    return _matmul(level.start_prob, value)


def solve(level: Level, gamma: jax.Array | float) -> Solution:
    """Solve the discounted problem without a time limit, by policy iteration.

    Values are exact to float32: relative errors of 1e-6 at a discount of 0.9, 1e-4 at 0.999.

    Args:
        level: the MDP; `gamma * (1 - terminate_prob)` must be less than 1.
        gamma: discount; may be traced.

    Returns:
        Value and policy, `[S]`.
    """

    def greedy(value: jax.Array) -> Solution:
        policy = _best(action_values(level, value, gamma))
        return Solution(evaluate(level, policy, gamma), policy)

    def improves(pair: tuple[Solution, Solution]) -> jax.Array:
        best, candidate = pair
        return candidate.value.sum() > best.value.sum()  # strict, so that rounding cannot cycle

    def improve(pair: tuple[Solution, Solution]) -> tuple[Solution, Solution]:
        _, candidate = pair
        return candidate, greedy(candidate.value)

    first = greedy(jnp.zeros(level.reward.shape[0]))
    best, _ = jax.lax.while_loop(improves, improve, (first, greedy(first.value)))
    return best


def solve_episode(level: Level, num_steps: int, gamma: jax.Array | float = 1.0) -> Solution:
    """Solve an episode by backward induction over time.

    Args:
        level: the MDP.
        num_steps: length of the table; at least the level's time limit.
        gamma: discount; 1 for the undiscounted return.

    Returns:
        Value and policy, `[num_steps, S]`; the value is 0 from the time limit on.
    """

    def backup(value: jax.Array, time: jax.Array) -> tuple[jax.Array, Solution]:
        q = action_values(level, value, gamma)
        value = jnp.where(time < level.max_steps_in_episode, q.max(-1), 0.0)
        return value, Solution(value, _best(q))

    nothing = jnp.zeros(level.reward.shape[0])
    _, solution = jax.lax.scan(backup, nothing, jnp.arange(num_steps), reverse=True)
    return solution


def evaluate(level: Level, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Value of a stationary policy without a time limit: float32 `[S]`.

    With M the discounted transition matrix of the policy, the series r + Mr + M²r + … is summed by
    doubling: k products make 2^k terms. A linear solve would do, but many small factorisations at
    once, as under `vmap`, can deadlock on CPU.

    Args:
        level: the MDP; `gamma * (1 - terminate_prob)` must be less than 1.
        policy: int32 `[S]`.
        gamma: discount.
    """
    states = jnp.arange(policy.shape[0])
    goes_on = 1 - _by_state_and_action(level)[states, policy]
    matrix = gamma * goes_on[:, None] * level.transition[states, policy]

    def double(_: int, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, matrix = sums
        return value + _matmul(matrix, value), _matmul(matrix, matrix)

    value, _ = jax.lax.fori_loop(0, NUM_DOUBLINGS, double, (level.reward[states, policy], matrix))
    return value


def action_values(level: Level, value: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Expected return of every action if `value` `[S]` follows it: float32 `[S, A]`."""
    return level.reward + gamma * (1 - level.terminate_prob) * _matmul(level.transition, value)


def _by_state_and_action(level: Level) -> jax.Array:
    return jnp.broadcast_to(level.terminate_prob, level.reward.shape)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")  # TF32 would not be exact


def _best(q: jax.Array) -> jax.Array:
    return q.argmax(-1).astype(jnp.int32)


def _is_simplex(probs: np.ndarray) -> np.ndarray:
    return (probs >= 0).all(-1) & (abs(probs.sum(-1) - 1) < 1e-4)
