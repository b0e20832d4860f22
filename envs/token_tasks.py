"""Token tasks: a step writes a token, and a verifier judges the answer when it ends.

The prompt is the level. So a group of answers to a prompt is that many environments on one level,
and a curriculum chooses prompts. Every task has a finite list of prompts: `levels` to train on, and
`held_out`. See `token_prompts.py` for the kinds of tasks.

The reward of the last token is 1 for a correct answer and 0 for a wrong one; all others are 0. An
answer ends with the end token. One that fills its room without an end token is wrong, and so is one
that contains padding, which ends it too. Both terminate, because the place is observed.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.token_prompts import (
    END,
    PAD,
    VOCABULARY,
    Arithmetic,
    Countdown,
    Kind,
    Prompt,
    Rearrange,
    write,
)
from purejaxrl.validation import is_count

SEED = 0
"""Seed of the lists of prompts, which are the same for everybody."""


@struct.dataclass
class Level:
    """A prompt, with a reference solution."""

    prompt: jax.Array  # int32 [prompt_length], padded on the left
    index: jax.Array  # int32, its place in the list that it is from
    difficulty: jax.Array  # int32, bin from 0
    solution: jax.Array  # int32 [answer_length], with end token and padding; or all padding
    step: jax.Array  # int32 [answer_length], which step of the solution a token belongs to; or -1
    max_steps_in_episode: jax.Array  # int32, tokens


@struct.dataclass
class TokenState:
    """The answer so far."""

    tokens: jax.Array  # int32 [answer_length], padded on the right
    time: jax.Array  # int32, tokens written


class Judgement(NamedTuple):
    """What there is to know about an answer, or several of any leading shape."""

    reward: jax.Array  # float32 []: 1 if it is correct, else 0
    other_rewards: jax.Array  # float32 [2]: well-formed (0 or 1); unused share of its room
    meaning: jax.Array  # int32 []: equal for answers that say the same
    step_reward: jax.Array  # float32 [T]: 1 where it is on the way to a correct answer, else 0
    length: jax.Array  # int32 []: tokens up to and including the end token


class TokenTask(environment.Environment):
    """Answers to prompts, observed as int32 `[prompt_length + answer_length]`: prompt and answer.

    What is not written yet is padding.
    """

    name = "token_task"
    vocabulary, end, pad = len(VOCABULARY), END, PAD

    def __init__(self, kind: Kind, held_out: int = 512):
        """Make a task.

        Args:
            kind: what is asked, and how it is judged.
            held_out: how many of its prompts are kept for evaluation.

        Raises:
            ValueError: if that is not an integer >= 1, or leaves none to train on.
        """
        super().__init__()
        self.kind, self.num_held_out = kind, held_out
        most = len(_listed(kind)) - 1
        if not (is_count(held_out) and held_out <= most):
            raise ValueError(
                f"held_out: {held_out} is not valid; it must be an integer from 1 to {most}, "
                f"as {kind} has {most + 1} prompts"
            )

    @functools.cached_property
    def levels(self) -> Level:
        """The prompts to train on, NumPy leaves `[num_levels, ...]`."""
        return self._table([p for same in _listed(self.kind)[self.num_held_out :] for p in same])

    @functools.cached_property
    def held_out(self) -> Level:
        """The prompts to evaluate on, NumPy leaves `[num_held_out, ...]`.

        None of them asks the same as one to train on.
        """
        return self._table([same[0] for same in _listed(self.kind)[: self.num_held_out]])

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt, with its padding."""
        return self.kind.prompt_length

    @property
    def answer_length(self) -> int:
        """Most tokens of an answer."""
        return self.kind.answer_length

    @property
    def num_difficulties(self) -> int:
        """Bins of difficulty."""
        return self.kind.num_difficulties

    def sample_level(self, key: jax.Array) -> Level:
        """Draw one of the prompts to train on."""
        index = jax.random.randint(key, (), 0, len(self.levels.index))
        return jax.tree.map(lambda x: jnp.asarray(x)[index], self.levels)

    def judge(self, level: Level, tokens: jax.Array) -> Judgement:
        """Judge an answer; vmap it over answers and levels.

        Args:
            level: the prompt.
            tokens: int32 `[answer_length]`; what follows the first end token is not read.
        """
        place = jnp.arange(self.answer_length)
        ends = (tokens == END).any()
        length = jnp.where(ends, (tokens == END).argmax() + 1, self.answer_length)
        tokens = jnp.where(place < length, tokens, PAD)
        verdict = self.kind.verify(level.prompt, level.solution, tokens, length)
        unused = 1 - length / self.answer_length
        return Judgement(
            reward=(verdict.correct & ends).astype(jnp.float32),
            other_rewards=jnp.stack([(verdict.well_formed & ends).astype(jnp.float32), unused]),
            meaning=jnp.where(ends, verdict.meaning, -1),
            step_reward=verdict.step.astype(jnp.float32),
            length=length.astype(jnp.int32),
        )

    def reset_env(self, key: jax.Array, params: Level) -> tuple[jax.Array, TokenState]:
        """Begin an answer."""
        state = TokenState(jnp.full(self.answer_length, PAD, jnp.int32), jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: TokenState, action: jax.Array, params: Level):
        """Write a token."""
        tokens = state.tokens.at[state.time].set(action)
        state = TokenState(tokens, state.time + 1)
        terminated = self._is_over(state)
        reward = jnp.where(terminated, self.judge(params, tokens).reward, 0.0)
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, reward, terminated, {}

    def _is_over(self, state: TokenState) -> jax.Array:
        last = state.tokens[state.time - 1]
        ended = (state.time > 0) & ((last == END) | (last == PAD))
        return ended | (state.time >= self.answer_length)

    def is_truncated(self, state: TokenState, params: Level) -> jax.Array:
        """Whether time is up before the answer has ended."""
        return (state.time >= params.max_steps_in_episode) & ~self._is_over(state)

    def observe(self, state: TokenState, params: Level) -> jax.Array:
        """Return the prompt and the answer so far."""
        return jnp.concatenate([params.prompt, state.tokens])

    @property
    def num_actions(self) -> int:
        """One for each token."""
        return self.vocabulary

    @property
    def default_params(self) -> Level:
        """The first of the prompts to train on."""
        return jax.tree.map(lambda x: jnp.asarray(x[0]), self.levels)

    def action_space(self, params: Level | None = None) -> spaces.Discrete:
        """All tokens."""
        return spaces.Discrete(self.vocabulary)

    def observation_space(self, params: Level | None = None) -> spaces.Box:
        """Sequences of tokens."""
        length = self.prompt_length + self.answer_length
        return spaces.Box(0, self.vocabulary - 1, (length,), jnp.int32)

    def _table(self, prompts: Sequence[Prompt]) -> Level:
        room = self.answer_length
        steps = [[*p.steps, *p.steps[-1:]] for p in prompts]  # the end token is of the last step
        solutions = [p.solution and f"{p.solution}." for p in prompts]
        return Level(
            prompt=np.stack([write(p.text, self.prompt_length, left=True) for p in prompts]),
            index=np.arange(len(prompts), dtype=np.int32),
            difficulty=np.array([p.difficulty for p in prompts], np.int32),
            solution=np.stack([write(solution, room, left=False) for solution in solutions]),
            step=np.array([s + [-1] * (room - len(s)) for s in steps], np.int32),
            max_steps_in_episode=np.full(len(prompts), room, np.int32),
        )


@functools.cache
def _listed(kind: Kind) -> list[list[Prompt]]:
    return kind.prompts(np.random.default_rng(SEED))


def arithmetic(num_operands: int = 4, num_prompts: int = 3000, held_out: int = 512) -> TokenTask:
    """Make calculations modulo 10; see `Arithmetic`."""
    return TokenTask(Arithmetic(num_operands, num_prompts), held_out)


def rearrange(
    order: str, max_digits: int = 7, num_prompts: int = 3000, held_out: int = 512
) -> TokenTask:
    """Make the task to copy, reverse or sort digits; see `Rearrange`."""
    return TokenTask(Rearrange(order, max_digits=max_digits, num_prompts=num_prompts), held_out)


def countdown(answer_length: int = 8, held_out: int = 512) -> TokenTask:
    """Make Countdown with three numbers; see `Countdown`."""
    return TokenTask(Countdown(answer_length=answer_length), held_out)
