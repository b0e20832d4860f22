"""Delayed chains, one of the environments of LPG's discovery (Oh et al. 2020, appendix A.3).

The first of two actions decides the reward at the end of the chain: +1 if it was right, else -1. No
later action matters. Credit is hard to assign if the chain is long, if its length is random, or if
every step before the last has a random reward of ±1.

Secondary sources describe lengths of 5 to 30 steps (`short`) or 5 to 50 (`long`), drawn once per
lifetime, noise of ±1 (`short_noisy`, `long_noisy`), and an observation in which 20 random bits hide
the informative ones (`distracted`). They leave three things open, which are chosen here. The right
action is drawn once per level too (`one_is_right_prob` of 0 or 1; other values draw it for every
episode). It is observed before the first action, so the process is Markov and the optimum is +1.
Every step but the last has noise.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl.validation import require, require_count

NUM_DISTRACTORS = 20


@struct.dataclass
class Level:
    """A chain. Its length is drawn for every episode, uniformly from min_length to max_length."""

    min_length: jax.Array  # int32, steps
    max_length: jax.Array  # int32, steps; equal to min_length for a fixed delay
    one_is_right_prob: jax.Array  # float32, probability that the right first action is 1, not 0
    noise: jax.Array  # float32, size of the random reward of every step but the last
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class ChainState:
    """The chain of this episode, and the agent's position on it."""

    length: jax.Array  # int32, steps
    right_action: jax.Array  # int32, 0 or 1
    chose_right: jax.Array  # bool; False before the first action
    distractors: jax.Array  # bool [num_distractors], drawn at every step
    time: jax.Array  # int32, steps since the reset


class DelayedChain(environment.Environment):
    """A delayed chain with a tabular observation: int32, `2 * time + bit`.

    Before the first action the bit is the right action, afterwards whether it was taken.
    """

    name = "delayed_chain"
    num_distractors = 0

    def __init__(self, min_length: int = 5, max_length: int = 30, noise: float = 0.0):
        """Make an environment for chains of at most `max_length` steps.

        Args:
            min_length, max_length: range of the lengths that `sample_level` draws.
            noise: size of the random rewards in sampled levels.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__()
        self.min_length, self.max_length, self.noise = min_length, max_length, noise
        require_count(self, "min_length", "max_length")
        require(min_length <= max_length, self, "min_length", f"at most max_length, {max_length}")
        require(0 <= noise < math.inf, self, "noise", "a finite number >= 0")

    def sample_level(self, key: jax.Array) -> Level:
        """Draw a level: one length and one right action for all its episodes."""
        length_key, action_key = jax.random.split(key)
        length = jax.random.randint(length_key, (), self.min_length, self.max_length + 1)
        return Level(
            min_length=length,
            max_length=length,
            one_is_right_prob=jax.random.bernoulli(action_key).astype(jnp.float32),
            noise=jnp.float32(self.noise),
            max_steps_in_episode=jnp.int32(self.max_length),
        )

    def optimal_return(self, params: Level) -> jax.Array:
        """Return the expected undiscounted return of taking the right action first, float32.

        Noise is zero on average, so it is the probability that a chain ends before the time limit.
        """
        num_lengths = params.max_length - params.min_length + 1
        num_within = params.max_steps_in_episode - params.min_length + 1
        return jnp.clip(num_within / num_lengths, 0.0, 1.0)

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, ChainState]:
        """Draw the episode's length and right action."""
        length_key, action_key, bits_key = jax.random.split(key, 3)
        one_is_right = jax.random.bernoulli(action_key, params.one_is_right_prob)
        state = ChainState(
            length=jax.random.randint(length_key, (), params.min_length, params.max_length + 1),
            right_action=one_is_right.astype(jnp.int32),
            chose_right=jnp.bool_(False),
            distractors=jax.random.bernoulli(bits_key, shape=(self.num_distractors,)),
            time=jnp.int32(0),
        )
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: ChainState, action: jax.Array, params: Level):
        """Go one step down the chain."""
        noise_key, bits_key = jax.random.split(key)
        chose_right = jnp.where(state.time == 0, action == state.right_action, state.chose_right)
        time = state.time + 1

        terminated = time >= state.length
        verdict = jnp.where(chose_right, 1.0, -1.0)
        noise = params.noise * jax.random.rademacher(noise_key, (), jnp.float32)
        reward = jnp.where(terminated, verdict, noise)

        distractors = jax.random.bernoulli(bits_key, shape=(self.num_distractors,))
        state = state.replace(chose_right=chose_right, distractors=distractors, time=time)
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, reward, terminated, {}

    def is_truncated(self, state: ChainState, params: Level) -> jax.Array:
        """Whether time is up before the chain has ended."""
        return (state.time >= params.max_steps_in_episode) & (state.time < state.length)

    def observe(self, state: ChainState, params: Level) -> jax.Array:
        """Index of the state, int32 `[]`."""
        bit = jnp.where(state.time == 0, state.right_action, state.chose_right)
        return 2 * state.time + bit

    @property
    def num_actions(self) -> int:
        """Two."""
        return 2

    @property
    def default_params(self) -> Level:
        """One of the sampled levels."""
        return self.sample_level(jax.random.key(0))

    def action_space(self, params: Level | None = None) -> spaces.Discrete:
        """Two actions."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: Level | None = None) -> spaces.Space:
        """Return the indices of all times and bits."""
        return spaces.Discrete(2 * (self.max_length + 1))


class DistractedChain(DelayedChain):
    """A delayed chain observed as bits: float32 `[2 + num_distractors]`.

    The bits are the right action, whether it was taken (0 before the first action), and random
    ones. The time is not observed.
    """

    def __init__(
        self,
        min_length: int = 5,
        max_length: int = 30,
        noise: float = 0.0,
        num_distractors: int = NUM_DISTRACTORS,
    ):
        """Make an environment for chains of at most `max_length` steps.

        Args:
            min_length, max_length: range of the lengths that `sample_level` draws.
            noise: size of the random rewards in sampled levels.
            num_distractors: number of random bits.

        Raises:
            ValueError: naming the setting that is not valid.
        """
        super().__init__(min_length, max_length, noise)
        self.num_distractors = num_distractors
        require_count(self, "num_distractors")

    def observe(self, state: ChainState, params: Level) -> jax.Array:
        """Return the informative bits, then the others."""
        informative = jnp.stack([state.right_action, state.chose_right])
        return jnp.concatenate([informative, state.distractors]).astype(jnp.float32)

    def observation_space(self, params: Level | None = None) -> spaces.Box:
        """Vectors of bits."""
        return spaces.Box(0.0, 1.0, (2 + self.num_distractors,))


short = functools.partial(DelayedChain, max_length=30)
long = functools.partial(DelayedChain, max_length=50)
short_noisy = functools.partial(DelayedChain, max_length=30, noise=1.0)
long_noisy = functools.partial(DelayedChain, max_length=50, noise=1.0)
distracted = functools.partial(DistractedChain, max_length=30)
