"""Random finite MDPs of several kinds, which set a learning rule many different problems.

Every level is of one kind of `KINDS`. A kind decides what is asked of an agent: to survive, to
reach a goal, to find rare rewards, and so on. What else is drawn is common to all kinds: the number
of states, the scale of the rewards, the time limit, and whether rewards are noisy. Every state and
action has at most two successors.

Observations are the state's index, for tables, or random features of the state, for networks.
`to_tabular` turns a level into one that `envs.tabular` solves.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from envs import tabular
from envs.random_mdp_kinds import EXPLORATION, KINDS, MIN_STATES, draw
from purejaxrl.parts.distributions import log_uniform, log_uniform_int
from purejaxrl.parts.wrappers import Restarting
from purejaxrl.validation import is_count, require, require_count, require_known

USUAL_KINDS = tuple(kind for kind in KINDS if kind not in EXPLORATION)
"""The kinds of levels that are drawn by default."""

REWARD_SCALE = (0.1, 2.0)
"""Least and largest scale of a level's rewards; log-uniform."""


@struct.dataclass
class Level:
    """A finite MDP with S states, A actions, and two successors for each state and action."""

    successors: jax.Array  # int32 [S, A, 2]
    first_prob: jax.Array  # float32 [S, A], probability of the first successor
    reward: jax.Array  # float32 [S, A], means
    terminate_prob: jax.Array  # float32 [S, A], probability that the step ends the episode
    reward_std: jax.Array  # float32, size of the random term of every reward, ±reward_std
    num_starts: jax.Array  # int32; an episode starts in one of the states 0 … num_starts - 1
    features: jax.Array | None  # float32 [S, F]; None: the index of the state is observed
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class MDPState:
    """Where the agent is, and where the next episode starts."""

    index: jax.Array  # int32, the state of the MDP
    time: jax.Array  # int32, steps since the reset
    next_start: jax.Array  # int32, first state of the next episode


class RandomMDP(Restarting):
    """Finite MDPs of several kinds; `sample_level` draws the kind first, uniformly."""

    name = "random-mdp"

    def __init__(
        self,
        num_states: int = 32,
        num_actions: int = 3,
        features: int = 0,
        kinds: Sequence[str] = USUAL_KINDS,
    ):
        """Make an environment for MDPs of one shape.

        Args:
            num_states: S, the largest number of states; a level uses between a quarter and all of
                them (but at least `MIN_STATES`), log-uniform.
            num_actions: A.
            features: F, the length of an observed vector, standard normal for every state. 0: the
                index of the state is observed.
            kinds: the kinds of levels to draw, of `KINDS`.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__()
        self.num_states, self._num_actions = num_states, num_actions
        self.features, self.kinds = features, tuple(kinds)
        require_count(self, "num_states", "num_actions")
        require(num_states >= MIN_STATES, self, "num_states", f"at least {MIN_STATES}")
        require(num_actions >= 2, self, "num_actions", "at least 2")
        require(features == 0 or is_count(features), self, "features", "an integer >= 0")
        require(len(self.kinds) > 0, self, "kinds", f"one or more of {', '.join(KINDS)}")
        for kind in self.kinds:
            require_known("kind of MDP", kind, KINDS)

    def sample_level(self, key: jax.Array) -> Level:
        """Draw a level of one of the kinds."""
        kind_key, level_key = jax.random.split(key)
        return self.sample_kind(level_key, jax.random.randint(kind_key, (), 0, len(self.kinds)))

    def sample_kind(self, key: jax.Array, kind: jax.Array) -> Level:
        """Draw a level of the kind with this index in `kinds`, int32 `[]`."""
        problem_key, size_key, scale_key, noise_key, features_key, limit_key = jax.random.split(
            key, 6
        )
        size = log_uniform_int(size_key, max(MIN_STATES, self.num_states // 4), self.num_states)
        draws = draw(problem_key, self.num_states, self.num_actions, size)
        kinds = [KINDS[name] for name in self.kinds]
        problem = jax.lax.switch(kind, [each.make for each in kinds], draws)

        scale = log_uniform(scale_key, *REWARD_SCALE)
        noise = 0.3 * jax.random.bernoulli(noise_key, 0.3)  # 30 % of the levels are noisy
        features = jax.random.normal(features_key, (self.num_states, self.features))
        least, most = jnp.array([each.limit for each in kinds])[kind]
        return Level(
            successors=problem.moves.successors,
            first_prob=problem.moves.first_prob,
            reward=scale * problem.reward,
            terminate_prob=problem.terminate_prob,
            reward_std=scale * jnp.maximum(noise, problem.noise),
            num_starts=problem.num_starts,
            features=features if self.features else None,
            max_steps_in_episode=log_uniform_int(limit_key, least, most),
        )

    def optimal_return(self, params: Level) -> jax.Array:
        """Return the expected undiscounted return of the best policy over time, float32."""
        return tabular.optimal_return(to_tabular(params))

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, MDPState]:
        """Draw the first state."""
        return self._start(_draw_start(jax.random.uniform(key), params), params)

    def restart(self, state: MDPState, params: Level) -> tuple[jax.Array, MDPState]:
        """Start the next episode in the state that the last step has drawn."""
        return self._start(state.next_start, params)

    def _start(self, index: jax.Array, params: Level) -> tuple[jax.Array, MDPState]:
        state = MDPState(index, jnp.int32(0), index)
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: MDPState, action: jax.Array, params: Level):
        """Draw the reward, the next state, and whether the episode ends there."""
        sign, next_index, end, start = jax.random.uniform(key, (4,))
        here = state.index, action
        noise = jnp.where(sign < 0.5, -params.reward_std, params.reward_std)
        first, second = params.successors[here]
        state = MDPState(
            index=jnp.where(next_index < params.first_prob[here], first, second),
            time=state.time + 1,
            next_start=_draw_start(start, params),
        )
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, params.reward[here] + noise, end < params.terminate_prob[here], {}

    def is_truncated(self, state: MDPState, params: Level) -> jax.Array:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def observe(self, state: MDPState, params: Level) -> jax.Array:
        """Return the index of the state, int32 `[]`, or its features, float32 `[F]`."""
        return params.features[state.index] if self.features else state.index

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

    def observation_space(self, params: Level | None = None) -> spaces.Space:
        """S states, or vectors of F features."""
        if self.features:
            return spaces.Box(-jnp.inf, jnp.inf, (self.features,))
        return spaces.Discrete(self.num_states)


def to_tabular(level: Level) -> tabular.Level:
    """Return the same MDP with a transition matrix, as `tabular.py` has it."""
    num_states = level.reward.shape[0]
    first, second = jnp.moveaxis(jax.nn.one_hot(level.successors, num_states), -2, 0)
    prob = level.first_prob[..., None]
    return tabular.Level(
        transition=prob * first + (1 - prob) * second,
        reward=level.reward,
        reward_std=level.reward_std,
        start_prob=(jnp.arange(num_states) < level.num_starts) / level.num_starts,
        terminate_prob=level.terminate_prob,
        max_steps_in_episode=level.max_steps_in_episode,
    )


def _draw_start(chance: jax.Array, level: Level) -> jax.Array:
    return jnp.floor(chance * level.num_starts).astype(jnp.int32)
