"""A buffer of levels: which to keep, and which to replay.

Prioritised level replay (Jiang et al. 2021, arXiv 2010.03934) as a pytree of fixed capacity and
pure functions over it. A level that a student is training on is *in use*: it is neither drawn again
nor replaced. A new level enters the buffer after its first visit, with the score of that visit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

NOT_KEPT = -1
"""The slot of a level that is not in the buffer."""

Priority = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(scores, eligible, temperature) -> log-priorities`, all `[capacity]` but the temperature."""


class Buffer(NamedTuple):
    """Levels and what is known about each, leaves `[capacity, ...]`."""

    levels: Any
    fingerprint: jax.Array  # uint32
    score: jax.Array  # float32, of the last visit
    best_return: jax.Array  # float32, the highest return that any student had on it
    last_visit: jax.Array  # int32, the clock when it was last drawn or scored
    filled: jax.Array  # bool
    in_use: jax.Array  # bool
    clock: jax.Array  # int32 [], how often levels were drawn

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return self.score.shape[-1]


class Visits(NamedTuple):
    """Visits of students to levels, leaves `[n, ...]`."""

    slot: jax.Array  # int32, the slot that the level was drawn from, or NOT_KEPT
    levels: Any
    score: jax.Array  # float32
    best_return: jax.Array  # float32
    finished: jax.Array  # bool: only finished visits are recorded
    lesson: Any = ()  # what a curriculum added to the draw


def empty(level: Any, capacity: int) -> Buffer:
    """Make a buffer without levels.

    Args:
        level: any level, or its shapes and types.
        capacity: number of slots, at least 1.
    """
    return Buffer(
        levels=jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), level),
        fingerprint=jnp.zeros(capacity, jnp.uint32),
        score=jnp.zeros(capacity),
        best_return=jnp.zeros(capacity),
        last_visit=jnp.zeros(capacity, jnp.int32),
        filled=jnp.zeros(capacity, bool),
        in_use=jnp.zeros(capacity, bool),
        clock=jnp.int32(0),
    )


def by_rank(score: jax.Array, eligible: jax.Array, temperature: jax.Array) -> jax.Array:
    """Compute log-priorities log rank^(-1/temperature); the highest score has rank 1.

    Levels of equal score share the weight of their ranks: each has the mean of the weights
    rank^(-1/temperature). If all had the best of these ranks, a large group of levels of score 0
    would be replayed more often than the few above it.

    Floats are sorted as integers: their bits have the same order once the sign is handled, and a
    CPU sorts one array of integers five times faster than floats, or than `argsort`.
    """
    bits = jax.lax.bitcast_convert_type(jnp.where(eligible, -score, jnp.inf), jnp.uint32)
    bits ^= jnp.where(bits >> 31 == 1, jnp.uint32(0xFFFFFFFF), jnp.uint32(0x80000000))
    ordered, place = jnp.sort(bits), jnp.arange(score.size)
    begins = jnp.append(True, ordered[1:] != ordered[:-1])
    first = jax.lax.cummax(jnp.where(begins, place, 0))  # of the levels of equal score
    weight = -jnp.log1p(place.astype(jnp.float32)) / temperature
    total = jnp.zeros(score.size).at[first].add(jnp.exp(weight - weight[first]))
    count = jnp.zeros(score.size).at[first].add(1.0)
    mean = weight + jnp.log(total / jnp.maximum(count, 1.0))  # read where a group begins
    return mean[jnp.searchsorted(ordered, bits, method="scan_unrolled")]


def in_proportion(score: jax.Array, eligible: jax.Array, temperature: jax.Array) -> jax.Array:
    """Compute log-priorities log score^(1/temperature); -inf for scores of 0 and below."""
    positive = eligible & (score > 0)
    return jnp.where(positive, jnp.log(jnp.where(positive, score, 1.0)), -jnp.inf) / temperature


def log_chances(
    buffer: Buffer, temperature: jax.Array, staleness: jax.Array, priority: Priority = by_rank
) -> jax.Array:
    """Compute the logarithm of each level's chance of being drawn next, `[capacity]` (PLR eq. 2-5).

    The chance is (1 - ρ) times the normalised priority, plus ρ times the normalised time since the
    last visit. If all priorities are 0, or all times, that part is uniform. A level in use has
    chance 0. At low temperatures most chances are too small for float32; their logarithms are not.

    Args:
        buffer: the levels.
        temperature: β > 0; the lower, the greedier.
        staleness: ρ in [0, 1].
        priority: `by_rank` or `in_proportion`.
    """
    eligible = buffer.filled & ~buffer.in_use

    def normalised(logits: jax.Array) -> jax.Array:
        highest = jnp.max(logits, where=eligible, initial=-jnp.inf)
        return jax.nn.log_softmax(jnp.where(highest > -jnp.inf, logits, 0.0), where=eligible)

    by_score = normalised(priority(buffer.score, eligible, temperature))
    by_wait = normalised(jnp.log((buffer.clock - buffer.last_visit).astype(jnp.float32)))
    mixed = jnp.logaddexp(jnp.log1p(-staleness) + by_score, jnp.log(staleness) + by_wait)
    return jnp.where(eligible, mixed, -jnp.inf)


def draw(key: jax.Array, log_chance: jax.Array, count: int) -> jax.Array:
    """Draw slots one after the other without replacement: int32 `[count]`.

    The slots with the highest perturbed log-chances are drawn (Gumbel top-k; Kool et al. 2019), so
    the first m of them are a valid draw of m. NOT_KEPT where no level with a chance is left.
    """
    noise = jax.random.gumbel(key, log_chance.shape)
    found, slot = jax.lax.top_k(log_chance + noise, count)
    return jnp.where(jnp.isfinite(found), slot, NOT_KEPT).astype(jnp.int32)


def mark_in_use(buffer: Buffer, slot: jax.Array) -> Buffer:
    """Mark drawn slots `[n]` except NOT_KEPT as in use, and advance the clock."""
    where = index_of(slot, buffer.capacity)
    clock = buffer.clock + 1
    return buffer._replace(
        in_use=buffer.in_use.at[where].set(True, mode="drop"),
        last_visit=buffer.last_visit.at[where].set(clock, mode="drop"),
        clock=clock,
    )


def report(buffer: Buffer, visits: Visits) -> Buffer:
    """Record finished visits, one after the other.

    A level that was drawn from the buffer gets its new score and is no longer in use. A new level
    enters a free slot; if there is none, it replaces the level with the lowest score that is not in
    use, provided that its own score is higher. A new level that equals one in the buffer updates
    that one's score. A score that is not finite changes nothing.
    """
    chex.assert_equal_shape([visits.slot, visits.score, visits.best_return, visits.finished])
    fingerprints = jax.vmap(fingerprint)(visits.levels)
    order = jnp.argsort(~visits.finished, stable=True)

    def one(i: jax.Array, buffer: Buffer) -> Buffer:
        i = order[i]
        slot, score = visits.slot[i], visits.score[i]
        level = jax.tree.map(lambda x: x[i], visits.levels)
        drawn, sound = slot != NOT_KEPT, jnp.isfinite(score)

        match = jnp.argmax(buffer.filled & (buffer.fingerprint == fingerprints[i]))
        known = _equal(level, jax.tree.map(lambda x: x[match], buffer.levels))
        known &= buffer.filled[match]
        rank = jnp.where(buffer.filled, buffer.score, -jnp.inf)
        rank = jnp.where(buffer.in_use, jnp.inf, rank)
        lowest = jnp.argmin(rank)
        enters = ~drawn & ~known & sound & (score > rank[lowest])

        place = jnp.where(drawn, slot, jnp.where(known, match, lowest))
        put = lambda all, new, now: all.at[place].set(jnp.where(now, new, all[place]))  # noqa: E731
        scored = sound & (drawn | known | enters)
        best = visits.best_return[i]
        best = jnp.where(enters, best, jnp.fmax(best, buffer.best_return[place]))
        return buffer._replace(
            levels=jax.tree.map(lambda all, new: put(all, new, enters), buffer.levels, level),
            fingerprint=put(buffer.fingerprint, fingerprints[i], enters),
            score=put(buffer.score, score, scored),
            best_return=put(buffer.best_return, best, scored),
            last_visit=put(buffer.last_visit, buffer.clock, scored),
            filled=put(buffer.filled, True, enters),
            in_use=put(buffer.in_use, False, drawn),
        )

    return jax.lax.fori_loop(0, visits.finished.sum(), one, buffer)


def fingerprint(level: Any) -> jax.Array:
    """Hash a level, uint32: equal levels have equal hashes, different ones hardly ever."""
    total = jnp.uint32(0)
    for i, leaf in enumerate(jax.tree.leaves(level)):
        words = leaf.ravel()
        if jnp.issubdtype(words.dtype, jnp.floating):
            words = jnp.where(words == 0, 0.0, words)  # -0.0 has other bits, and is equal
            words = jax.lax.bitcast_convert_type(words.astype(jnp.float32), jnp.uint32)
        odd = np.random.default_rng(i).integers(2**32, size=words.size, dtype=np.uint32) | 1
        total += jnp.sum(words.astype(jnp.uint32) * odd, dtype=jnp.uint32)
    return total


def _equal(a: Any, b: Any) -> jax.Array:
    same = [jnp.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)]
    return jnp.all(jnp.stack(same))


def index_of(slot: jax.Array, capacity: int) -> jax.Array:
    """Replace NOT_KEPT by an index out of bounds, which `mode="drop"` ignores; -1 would wrap."""
    return jnp.where(slot == NOT_KEPT, capacity, slot)
