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
    """Levels of one kind. A curriculum that needs a field that is None is not available."""

    env: OwnLevel
    """Where students play them."""
    sample: SampleLevel
    """Draws a random level."""
    mutate: Callable[[jax.Array, Any, int], Any] | None = None
    """`(key, level, num_edits) -> level`: edits a level at random."""
    optimal_return: OptimalReturn | None = None
    """The highest return that is possible on a level."""
    builder: Builder | None = None
    """Where a teacher builds a level, step by step."""
    tokens: Tokens | None = None
    """How a level is written as a sequence of tokens."""
