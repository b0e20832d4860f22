"""Curricula: which level a student whose visit is over goes to next.

A curriculum is pure functions over a state of its own. It knows levels and their scores, not who
plays them: a meta-learner, where every agent has a level, and a student on many levels share it.
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
from purejaxrl.ued.buffer import NOT_KEPT, Buffer
from purejaxrl.validation import hyper


class Draw(NamedTuple):
    """Levels to go to, `[n, ...]`."""

    slot: jax.Array  # int32, where in a buffer the level is from, or NOT_KEPT
    levels: Any
    best_return: jax.Array  # float32, the highest that a student had there; -inf if unknown


class Curriculum(NamedTuple):
    """A choice of levels."""

    init: Callable
    """() -> state"""
    sample: Callable
    """(key, state, hypers, wanted) -> (state, Draw): a level for each of n, of which only those
    that are `wanted` (bool `[n]`) will be used."""
    report: Callable = lambda state, visits: state
    """(state, Visits) -> state: hear of visits."""
    about: Callable = lambda state: {}
    """(state) -> metrics"""
    reads_scores: bool = False
    """Whether scores are worth computing."""
    name: str = ""
    """What it is made of."""


def uniform(sample_level: Callable) -> Curriculum:
    """Every level new, from `sample_level(key) -> level`."""

    def sample(key: jax.Array, state: tuple, hypers: Any, wanted: jax.Array):
        keys = jax.random.split(key, wanted.size)
        return state, new(jax.vmap(sample_level)(keys))

    return Curriculum(tuple, sample, name=part_name(sample_level))


def fixed(levels: Any) -> Curriculum:
    """One of these levels `[m, ...]` every time, all alike."""
    num_levels = jax.tree.leaves(levels)[0].shape[0]

    def sample(key: jax.Array, state: tuple, hypers: Any, wanted: jax.Array):
        index = jax.random.randint(key, wanted.shape, 0, num_levels)
        return state, new(jax.tree.map(lambda x: x[index], levels))

    return Curriculum(tuple, sample, name=f"fixed({part_name(levels)})")


class Replay(struct.PyTreeNode):
    """How levels are replayed. Traced."""

    replay_prob: float = hyper(0.5, at_least=0, at_most=1)
    """Chance that a level comes from the buffer; else it is new."""
    temperature: float = hyper(0.3, above=0)
    """β of the priorities; the lower, the greedier."""
    staleness: float = hyper(0.3, at_least=0, at_most=1)
    """ρ, weight of the time since a level's last visit."""
    min_fill: float = hyper(0.0, at_least=0, at_most=1)
    """Part of the buffer that must be filled before anything is replayed."""


def replays(key: jax.Array, buffer: Buffer, hypers: Replay, shape: tuple = ()) -> jax.Array:
    """Decide whether to replay rather than to explore, bool of a shape."""
    filled = buffer.filled.mean()
    chance = jnp.where((filled > 0) & (filled >= hypers.min_fill), hypers.replay_prob, 0.0)
    return jax.random.uniform(key, shape) < chance


def replay(
    sample_level: Callable, capacity: int = 4000, priority: Callable = buffers.by_rank
) -> Curriculum:
    """Prioritised level replay: some levels from a buffer, the others new (PLR).

    Args:
        sample_level: `(key) -> level`, whence new ones come.
        capacity: of the buffer.
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
        old = wanted & replays(coin_key, buffer, hypers, wanted.shape)
        chances = buffers.probabilities(buffer, hypers.temperature, hypers.staleness, priority)
        drawn = buffers.draw(draw_key, chances, count)
        slot = jnp.where(old, drawn[jnp.cumsum(old) - 1], NOT_KEPT)
        known = remember(buffer, slot)
        fresh = new(jax.vmap(sample_level)(jax.random.split(new_key, count)))
        return buffers.take(buffer, slot), jax.vmap(tree_where)(slot != NOT_KEPT, known, fresh)

    parts = part_name(sample_level), capacity, part_name(priority)
    return Curriculum(init, sample, buffers.report, describe, True, f"replay{parts}")


def replay_and_mutate(
    sample_level: Callable,
    mutate: Callable,
    capacity: int = 4000,
    priority: Callable = buffers.by_rank,
) -> Curriculum:
    """As `replay`, but new levels are edits of levels in the buffer, once there are some (ACCEL).

    Args:
        sample_level, capacity, priority: as of `replay`.
        mutate: `(key, level) -> level`.
    """
    plain = replay(sample_level, capacity, priority)

    def sample(key: jax.Array, buffer: Buffer, hypers: Replay, wanted: jax.Array):
        sample_key, parent_key, edit_key = jax.random.split(key, 3)
        after, drawn = plain.sample(sample_key, buffer, hypers, wanted)
        chances = buffers.probabilities(buffer, hypers.temperature, hypers.staleness, priority)
        parent = jax.random.categorical(parent_key, jnp.log(chances), shape=wanted.shape)
        keys = jax.random.split(edit_key, wanted.size)
        children = jax.vmap(mutate)(keys, remember(buffer, parent).levels)
        mutates = (drawn.slot == NOT_KEPT) & (chances.sum() > 0)
        return after, drawn._replace(levels=jax.vmap(tree_where)(mutates, children, drawn.levels))

    return plain._replace(sample=sample, name=f"{plain.name}, {part_name(mutate)}")


def remember(buffer: Buffer, slot: jax.Array) -> Draw:
    """Levels in slots `[n]`; NOT_KEPT gives any."""
    at = lambda x: x[jnp.maximum(slot, 0)]  # noqa: E731
    return Draw(slot, jax.tree.map(at, buffer.levels), at(buffer.best_return))


def describe(buffer: Buffer) -> Metrics:
    """Say how full a buffer is, and the mean score of what is in it."""
    count = buffer.filled.sum()
    total = jnp.where(buffer.filled, buffer.score, 0.0).sum()
    return {
        "levels_kept": count,
        "score_kept": jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan),
    }


def new(levels: Any) -> Draw:
    """Levels `[n, ...]` of which nothing is known."""
    count = jax.tree.leaves(levels)[0].shape[0]
    unknown = jnp.full(count, -jnp.inf, jnp.float32)
    return Draw(jnp.full(count, NOT_KEPT, jnp.int32), levels, unknown)
