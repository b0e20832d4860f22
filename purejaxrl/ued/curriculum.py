"""Curricula: which level a student trains on next.

A curriculum is pure functions over a state of its own. It depends on levels and their scores, not
on the students: a meta-learner, whose agents have one level each, uses the same curricula as a
student that trains on many levels at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Metrics
from purejaxrl.identity import part_name
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued.buffer import NOT_KEPT, Buffer, Priority, Visits
from purejaxrl.validation import hyper

SampleLevel = Callable[[jax.Array], Any]
"""`(key) -> level`, the `env_params` of an environment."""


class Draw(NamedTuple):
    """Levels to train on next, leaves `[n, ...]`."""

    slot: jax.Array  # int32, the level's slot in a buffer, or NOT_KEPT
    levels: Any
    best_return: jax.Array  # float32, the highest return of any student; -inf if unknown


class Curriculum(NamedTuple):
    """A way to choose levels."""

    init: Callable[[], Any]
    """`() -> state`"""
    sample: Callable[[jax.Array, Any, Any, jax.Array], tuple[Any, Draw]]
    """`(key, state, hypers, wanted) -> (state, draw)`: draws n levels. `wanted`, bool `[n]`, says
    which of them will be used; the others change nothing."""
    report: Callable[[Any, Visits], Any] = lambda state, visits: state
    """`(state, visits) -> state`: records finished visits."""
    metrics: Callable[[Any], Metrics] = lambda state: {}
    """`(state) -> metrics`"""
    reads_scores: bool = False
    """Whether `report` reads the visits' scores."""
    name: str = ""
    """Its parts, for a run's identity."""


def uniform(sample_level: SampleLevel) -> Curriculum:
    """Make a curriculum of levels that are all new."""

    def sample(key: jax.Array, state: tuple, hypers: Any, wanted: jax.Array):
        keys = jax.random.split(key, wanted.size)
        return state, new_levels(jax.vmap(sample_level)(keys))

    return Curriculum(tuple, sample, name=part_name(sample_level))


def fixed(levels: Any) -> Curriculum:
    """Make a curriculum that draws uniformly from the given levels `[m, ...]`."""
    num_levels = jax.tree.leaves(levels)[0].shape[0]

    def sample(key: jax.Array, state: tuple, hypers: Any, wanted: jax.Array):
        index = jax.random.randint(key, wanted.shape, 0, num_levels)
        return state, new_levels(jax.tree.map(lambda x: x[index], levels))

    return Curriculum(tuple, sample, name=f"fixed({part_name(levels)})")


class Replay(struct.PyTreeNode):
    """How levels are replayed. Traced."""

    replay_prob: float = hyper(0.5, at_least=0, at_most=1)
    """Probability that a level comes from the buffer; otherwise it is new."""
    temperature: float = hyper(0.3, above=0)
    """β of the priorities; the lower, the greedier."""
    staleness: float = hyper(0.3, at_least=0, at_most=1)
    """ρ, weight of the time since a level's last visit."""
    min_fill: float = hyper(0.0, at_least=0, at_most=1)
    """Fraction of the buffer that must be filled before anything is replayed."""


def decide_replay(key: jax.Array, buffer: Buffer, hypers: Replay, shape: tuple = ()) -> jax.Array:
    """Decide at random where to replay a level and where to draw a new one: bool `[*shape]`."""
    filled = buffer.filled.mean()
    chance = jnp.where((filled > 0) & (filled >= hypers.min_fill), hypers.replay_prob, 0.0)
    return jax.random.uniform(key, shape) < chance


def replay(
    sample_level: SampleLevel, capacity: int = 4000, priority: Priority = buffers.by_rank
) -> Curriculum:
    """Make a curriculum of prioritised level replay (PLR): replayed levels among new ones.

    Args:
        sample_level: draws a new level.
        capacity: of the buffer; at least the number of levels that are drawn at a time.
        priority: `buffer.by_rank` or `buffer.in_proportion`.
    """

    def init() -> Buffer:
        shapes = jax.eval_shape(sample_level, jax.random.key(0))
        return buffers.empty(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), capacity)

    def sample(key: jax.Array, buffer: Buffer, hypers: Replay, wanted: jax.Array):
        count = wanted.size
        if count > capacity:
            raise ValueError(
                f"capacity: {capacity} is not valid; it must be an integer >= {count}, the number "
                "of levels that are drawn at a time"
            )
        coin_key, draw_key, new_key = jax.random.split(key, 3)
        replayed = wanted & decide_replay(coin_key, buffer, hypers, wanted.shape)
        chances = buffers.probabilities(buffer, hypers.temperature, hypers.staleness, priority)
        drawn = buffers.draw(draw_key, chances, count)
        slot = jnp.where(replayed, drawn[jnp.cumsum(replayed) - 1], NOT_KEPT)
        known = recall_levels(buffer, slot)
        fresh = new_levels(jax.vmap(sample_level)(jax.random.split(new_key, count)))
        return buffers.mark_in_use(buffer, slot), jax.vmap(tree_where)(
            slot != NOT_KEPT, known, fresh
        )

    parts = part_name(sample_level), capacity, part_name(priority)
    return Curriculum(init, sample, buffers.report, buffer_metrics, True, f"replay{parts}")


def recall_levels(buffer: Buffer, slot: jax.Array) -> Draw:
    """Look up the levels in slots `[n]`; for NOT_KEPT, the level is arbitrary."""
    at = lambda x: x[jnp.maximum(slot, 0)]  # noqa: E731
    return Draw(slot, jax.tree.map(at, buffer.levels), at(buffer.best_return))


def buffer_metrics(buffer: Buffer) -> Metrics:
    """Count the levels in a buffer, and average their scores; NaN if it is empty."""
    count = buffer.filled.sum()
    total = jnp.where(buffer.filled, buffer.score, 0.0).sum()
    return {
        "levels_kept": count,
        "score_kept": jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan),
    }


def new_levels(levels: Any) -> Draw:
    """Make a draw of levels `[n, ...]` that no student has visited yet."""
    count = jax.tree.leaves(levels)[0].shape[0]
    unknown = jnp.full(count, -jnp.inf, jnp.float32)
    return Draw(jnp.full(count, NOT_KEPT, jnp.int32), levels, unknown)
