"""A kind of levels: all that curricula need to know about it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from purejaxrl.ued.builder import Builder
from purejaxrl.ued.curriculum import SampleLevel
from purejaxrl.ued.scores import OptimalReturn
from purejaxrl.ued.student import OwnLevel


class Tokens(Protocol):
    """How levels are written as sequences of tokens, such as `envs.maze_tokens.MazeTokens`."""

    length: int
    vocabulary: int

    def write(self, level: Any) -> jax.Array:
        """Write a level, int32 `[length]`."""

    def read(self, tokens: jax.Array) -> Any:
        """Read a level."""

    def allowed(self) -> np.ndarray:
        """Say which tokens may be in which place, bool `[length, vocabulary]`."""


class Levels(NamedTuple):
    """Levels of one kind. What is None is missing, and so are the curricula that need it."""

    env: OwnLevel
    """Where students play them."""
    sample: SampleLevel
    """Draws a random one."""
    mutate: Callable[[jax.Array, Any, int], Any] | None = None
    """`(key, level, num_edits) -> level`: edits one at random."""
    optimal_return: OptimalReturn | None = None
    """The highest return that is possible on one."""
    builder: Builder | None = None
    """Where a teacher builds one, step by step."""
    tokens: Tokens | None = None
    """How one is written as a sequence."""
