"""Prompts of the token tasks: how they are listed, and how answers to them are verified.

A kind of task lists its prompts with a reference solution each, on the host, and judges answers on
the device. All kinds share one vocabulary. A prompt has a fixed length, padded on the left, so that
all answers begin at one place. An answer ends with the end token.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.validation import require, require_count

VOCABULARY = "0123456789+-*=:crs.~"
"""Tokens by index: digits, operators, separators, names of tasks, the end token, padding."""
END, PAD = VOCABULARY.index("."), VOCABULARY.index("~")
PLUS, MINUS, TIMES = (VOCABULARY.index(operator) for operator in "+-*")
OPERATORS: dict[str, Callable] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


class Prompt(NamedTuple):
    """A prompt on the host."""

    text: str
    solution: str  # a correct answer, without the end token; empty where there is none
    steps: tuple[int, ...]  # which step of the solution each of its characters belongs to
    difficulty: int  # bin, from 0


class Verdict(NamedTuple):
    """What a verifier says about one answer of T tokens."""

    correct: jax.Array  # bool []
    well_formed: jax.Array  # bool []: it has the form of an answer, be it right or wrong
    meaning: jax.Array  # int32 []: equal for answers that say the same
    step: jax.Array  # bool [T]: whether the answer is on the way to a correct one at this token


class Kind(Protocol):
    """A kind of task; a frozen dataclass, so that it can be named."""

    prompt_length: int
    answer_length: int
    num_difficulties: int

    def prompts(self, rng: np.random.Generator) -> list[list[Prompt]]:
        """List different prompts in random order, in groups that ask the same question."""

    def verify(
        self, prompt: jax.Array, solution: jax.Array, tokens: jax.Array, length: jax.Array
    ) -> Verdict:
        """Judge an answer that ends in time.

        Args:
            prompt: int32 `[prompt_length]`.
            solution: int32 `[answer_length]`, the reference solution with its end token.
            tokens: int32 `[answer_length]`; those after the end are padding.
            length: int32 `[]`, up to and including the end token.
        """


def write(text: str, length: int, *, left: bool) -> np.ndarray:
    """Write a text as tokens, int32 `[length]`, padded on the left or on the right."""
    tokens = [VOCABULARY.index(character) for character in text]
    padding = [PAD] * (length - len(tokens))
    return np.array(padding + tokens if left else tokens + padding, np.int32)


def read(tokens: np.ndarray) -> str:
    """Read tokens as a text, without padding and end token."""
    return "".join(VOCABULARY[token] for token in tokens if token not in (END, PAD))


def code(tokens: jax.Array) -> jax.Array:
    """Number a sequence of tokens `[..., T]`, int32 `[...]`; up to 7 tokens, all numbers differ.

    Longer sequences could collide, which is rare: the numbers are a polynomial modulo 2³².
    """
    number = jnp.zeros(tokens.shape[:-1], jnp.uint32)
    for i in range(tokens.shape[-1]):
        number = number * len(VOCABULARY) + tokens[..., i].astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(number, jnp.int32)


@dataclass(frozen=True)
class Arithmetic:
    """Calculations from left to right modulo 10: `7*8-9=` has the value 7.

    The reference solution has the result of every operation: `67`. An answer is correct if its last
    digit is right, whatever comes before it, so that answers differ in length. An earlier digit is
    a right step if the reference solution has the same digit in that place. The difficulty is the
    number of operations minus one.
    """

    num_operands: int = 4
    """Most operands of a calculation."""
    num_prompts: int = 3000
    """Prompts that are drawn, equally many of each difficulty; repeated ones are listed once."""

    def __post_init__(self):
        require_count(self, "num_operands", "num_prompts")
        require(2 <= self.num_operands <= 6, self, "num_operands", "an integer from 2 to 6")

    @property
    def num_difficulties(self) -> int:
        """Bins of difficulty."""
        return self.num_operands - 1

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt."""
        return 2 * self.num_operands

    @property
    def answer_length(self) -> int:
        """Room for an answer: twice a reference solution's steps, and the end token."""
        return 2 * (self.num_operands - 1) + 1

    def prompts(self, rng: np.random.Generator) -> list[list[Prompt]]:  # noqa: D102
        found: dict[str, Prompt] = {}
        each = self.num_prompts // self.num_difficulties
        for difficulty in range(self.num_difficulties):
            num_operands = difficulty + 2
            for _ in range(each):
                numbers = rng.integers(0, 10, num_operands)
                operators = rng.choice(list(OPERATORS), num_operands - 1)
                value, steps, text = int(numbers[0]), "", str(numbers[0])
                for operator, number in zip(operators, numbers[1:], strict=True):
                    value = OPERATORS[operator](value, int(number)) % 10
                    steps, text = f"{steps}{value}", f"{text}{operator}{number}"
                found[text] = Prompt(f"{text}=", steps, tuple(range(len(steps))), difficulty)
        return _shuffled(rng, [[prompt] for prompt in found.values()])

    def verify(self, prompt, solution, tokens, length) -> Verdict:  # noqa: D102
        place, in_answer = jnp.arange(tokens.shape[0]), jnp.arange(tokens.shape[0]) < length - 1
        result = solution[(solution == END).argmax() - 1]
        well_formed = (length > 1) & jnp.where(in_answer, tokens < 10, True).all()
        last = tokens[length - 2]
        correct = well_formed & (last == result) & (tokens[length - 1] == END)
        return Verdict(
            correct=correct,
            well_formed=well_formed,
            meaning=jnp.where(well_formed, last, -1),
            step=jnp.where(place >= length - 2, correct, tokens == solution) & (place < length),
        )


@dataclass(frozen=True)
class Rearrange:
    """Copy, reverse or sort digits: `r4719=` has the answer `9174`, and no other one.

    The difficulty is the number of digits minus `min_digits`.
    """

    order: str = "copy"
    """copy, reverse or sort."""
    min_digits: int = 3
    """Fewest digits."""
    max_digits: int = 7
    """Most digits."""
    num_prompts: int = 3000
    """Prompts that are drawn, equally many of each difficulty; repeated ones are listed once."""

    def __post_init__(self):
        require_count(self, "min_digits", "max_digits", "num_prompts")
        require(self.order in ORDERS, self, "order", f"one of {', '.join(ORDERS)}")
        valid = self.min_digits <= self.max_digits
        require(valid, self, "max_digits", f"at least min_digits = {self.min_digits}")

    @property
    def num_difficulties(self) -> int:
        """Bins of difficulty."""
        return self.max_digits - self.min_digits + 1

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt."""
        return self.max_digits + 2

    @property
    def answer_length(self) -> int:
        """Room for an answer: the digits and the end token."""
        return self.max_digits + 1

    def prompts(self, rng: np.random.Generator) -> list[list[Prompt]]:  # noqa: D102
        found: dict[str, Prompt] = {}
        for difficulty in range(self.num_difficulties):
            num_digits = self.min_digits + difficulty
            for _ in range(self.num_prompts // self.num_difficulties):
                digits = "".join(map(str, rng.integers(0, 10, num_digits)))
                answer = "".join(ORDERS[self.order](digits))
                steps = tuple(range(num_digits))
                found[digits] = Prompt(f"{self.order[0]}{digits}=", answer, steps, difficulty)
        return _shuffled(rng, [[prompt] for prompt in found.values()])

    def verify(self, prompt, solution, tokens, length) -> Verdict:  # noqa: D102
        place = jnp.arange(tokens.shape[0])
        return Verdict(
            correct=(tokens == solution).all(),
            well_formed=(length > 1) & jnp.where(place < length - 1, tokens < 10, True).all(),
            meaning=code(tokens),
            step=jnp.cumprod(tokens == solution).astype(bool) & (place < length),
        )


ORDERS: dict[str, Callable[[str], list[str]]] = {"copy": list, "reverse": lambda x: [*x][::-1]}
ORDERS["sort"] = sorted

EXPRESSIONS = [
    (numbers, operators)
    for numbers in itertools.permutations(range(3))
    for operators in itertools.product(OPERATORS, repeat=2)
]
"""All ways to use three numbers once each: their order, and two operators."""


@dataclass(frozen=True)
class Countdown:
    """Reach a target with three numbers: `372:42=` has the answer `3*7*2`, among others.

    An answer uses each number once, with +, - or *, and is computed from left to right, without
    parentheses. The numbers are from 1 to 9, in every order, and the targets are all those from 1
    to 99 that can be reached. The difficulty is 0 for prompts with more than four correct answers,
    1 for those with three or four, and 2 for those with one or two. An answer's steps are its two
    operations.
    """

    prompt_length: int = 7
    answer_length: int = 8
    """Room for an answer; a correct one has five tokens and the end token."""

    def __post_init__(self):
        require_count(self, "prompt_length", "answer_length")
        require(self.prompt_length >= 7, self, "prompt_length", "an integer >= 7")
        require(self.answer_length >= 6, self, "answer_length", "an integer >= 6")

    @property
    def num_difficulties(self) -> int:
        """Bins of difficulty."""
        return 3

    def prompts(self, rng: np.random.Generator) -> list[list[Prompt]]:  # noqa: D102
        listed = []
        for numbers in itertools.combinations_with_replacement(range(1, 10), 3):
            answers: dict[int, set[str]] = {}
            for order, operators in EXPRESSIONS:
                a, b, c = (numbers[i] for i in order)
                value = OPERATORS[operators[1]](OPERATORS[operators[0]](a, b), c)
                answer = f"{a}{operators[0]}{b}{operators[1]}{c}"
                answers.setdefault(value, set()).add(answer)
            for target, correct in sorted(answers.items()):
                if 1 <= target <= 99:
                    listed.append(self._in_all_orders(rng, numbers, target, sorted(correct)))
        return _shuffled(rng, listed)

    def verify(self, prompt, solution, tokens, length) -> Verdict:  # noqa: D102
        right, place = self.correct_answers(prompt), jnp.arange(tokens.shape[0])
        answers, is_right = right
        agrees = jnp.cumprod(answers == tokens, axis=1).astype(bool)  # [54, T]: up to this token
        digits, operators = tokens[jnp.array([0, 2, 4])], tokens[jnp.array([1, 3])]
        are_operators = (operators >= PLUS) & (operators <= TIMES)
        return Verdict(
            correct=(agrees[:, -1] & is_right).any(),
            well_formed=(length == 6) & (digits < 10).all() & are_operators.all(),
            meaning=code(tokens),
            step=(agrees & is_right[:, None]).any(0) & (place < length),
        )

    def _in_all_orders(
        self, rng: np.random.Generator, numbers: tuple[int, ...], target: int, correct: list[str]
    ) -> list[Prompt]:
        """Ask for one target with the numbers in every order, each time with another solution."""
        orders = sorted(set(itertools.permutations(numbers)))
        difficulty = 2 - int(len(correct) > 2) - int(len(correct) > 4)
        return [
            Prompt(
                text="".join(map(str, orders[i])) + f":{target:02d}=",
                solution=str(rng.choice(correct)),
                steps=(0, 0, 0, 1, 1),
                difficulty=difficulty,
            )
            for i in rng.permutation(len(orders))
        ]

    def correct_answers(self, prompt: jax.Array) -> tuple[jax.Array, jax.Array]:
        """List all answers that use the numbers of a prompt, and say which are correct.

        Args:
            prompt: int32 `[prompt_length]`.

        Returns:
            Answers with end token and padding, int32 `[54, answer_length]`, some of them equal
            where two numbers are; and bool `[54]`.
        """
        numbers, target = prompt[-7:-4], 10 * prompt[-3] + prompt[-2]
        order = np.array([order for order, _ in EXPRESSIONS])
        operators = np.array([[VOCABULARY.index(o) for o in pair] for _, pair in EXPRESSIONS])
        a, b, c = numbers[order].T
        first, second = jnp.asarray(operators).T
        value = _apply(second, _apply(first, a, b), c)
        end = jnp.full_like(a, END)
        padding = [jnp.full_like(a, PAD)] * (self.answer_length - 6)
        return jnp.stack([a, first, b, second, c, end, *padding], axis=1), value == target


def _apply(operator: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(operator == PLUS, a + b, jnp.where(operator == MINUS, a - b, a * b))


def _shuffled(rng: np.random.Generator, prompts: list[list[Prompt]]) -> list[list[Prompt]]:
    return [prompts[i] for i in rng.permutation(len(prompts))]
