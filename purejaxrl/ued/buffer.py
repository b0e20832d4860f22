"""A buffer of levels: what to keep, and what to play again.

Prioritised level replay (Jiang et al. 2021, arXiv 2010.03934) as a pytree of fixed capacity and
pure functions over it. Levels that students are on are *in use*: those are neither drawn again nor
replaced. A level enters with a score that it has earned, never before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

NOT_KEPT = -1
"""The slot of a level that is not in the buffer."""


class Buffer(NamedTuple):
    """Levels with what is known of them, `[capacity, ...]`."""

    levels: Any
    fingerprint: jax.Array  # uint32
    score: jax.Array  # float32, of its last visit
    best_return: jax.Array  # float32, the highest that any student had on it
    last_visit: jax.Array  # int32, the clock when it was last drawn or scored
    filled: jax.Array  # bool
    in_use: jax.Array  # bool
    clock: jax.Array  # int32 [], draws so far

    @property
    def capacity(self) -> int:
        """How many levels there is room for."""
        return self.score.shape[-1]


class Visits(NamedTuple):
    """What students made of levels, `[n, ...]`."""

    slot: jax.Array  # int32, where the level was drawn from, or NOT_KEPT
    levels: Any
    score: jax.Array  # float32
    best_return: jax.Array  # float32
    over: jax.Array  # bool: the others are still under way, or were none


def empty(level: Any, capacity: int) -> Buffer:
    """Return a buffer without levels.

    Args:
        level: any one, for its shapes and types.
        capacity: how many there is room for.
    """
    if capacity < 1:
        raise ValueError(f"capacity: {capacity} is not valid; it must be an integer >= 1")
    return Buffer(
        levels=jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), x.dtype), level),
        fingerprint=jnp.zeros(capacity, jnp.uint32),
        score=jnp.zeros(capacity),
        best_return=jnp.zeros(capacity),
        last_visit=jnp.zeros(capacity, jnp.int32),
        filled=jnp.zeros(capacity, bool),
        in_use=jnp.zeros(capacity, bool),
        clock=jnp.int32(0),
    )


def by_rank(score: jax.Array, eligible: jax.Array, temperature: jax.Array) -> jax.Array:
    """Log-priorities that fall with the rank, 1 the highest: log rank^(-1/temperature).

    Equal scores share a rank. A CPU sorts one array of integers five times faster than floats, or
    than an order with them: the bits of a float, with the sign turned, order as it does.
    """
    bits = jax.lax.bitcast_convert_type(jnp.where(eligible, -score, jnp.inf), jnp.uint32)
    bits ^= jnp.where(bits >> 31 == 1, jnp.uint32(0xFFFFFFFF), jnp.uint32(0x80000000))
    rank = 1 + jnp.searchsorted(jnp.sort(bits), bits, method="scan_unrolled")
    return -jnp.log(rank.astype(jnp.float32)) / temperature


def in_proportion(score: jax.Array, eligible: jax.Array, temperature: jax.Array) -> jax.Array:
    """Log-priorities log score^(1/temperature); scores of 0 and below have none."""
    positive = eligible & (score > 0)
    return jnp.where(positive, jnp.log(jnp.where(positive, score, 1.0)), -jnp.inf) / temperature


def probabilities(
    buffer: Buffer, temperature: jax.Array, staleness: jax.Array, priority: Callable = by_rank
) -> jax.Array:
    """Chance of each level to be drawn next, `[capacity]`; 0 for those in use (PLR eq. 2 to 5).

    (1 - ρ) times the normalised priorities, plus ρ times the normalised time since the last visit.
    Where nothing has a priority, or nothing has waited, that part is uniform.

    Args:
        buffer: of levels.
        temperature: β > 0; the lower, the greedier.
        staleness: ρ in [0, 1].
        priority: `by_rank` or `in_proportion`.
    """
    eligible = buffer.filled & ~buffer.in_use

    def normalised(weight: jax.Array) -> jax.Array:
        weight = jnp.where(eligible, weight, 0.0)
        weight = jnp.where(weight.sum() > 0, weight, eligible.astype(weight.dtype))
        return weight / jnp.maximum(weight.sum(), 1e-30)

    logits = jnp.where(eligible, priority(buffer.score, eligible, temperature), -jnp.inf)
    highest = jnp.max(logits)
    by_score = jnp.exp(logits - jnp.where(jnp.isfinite(highest), highest, 0.0))
    waited = (buffer.clock - buffer.last_visit).astype(jnp.float32)
    return (1 - staleness) * normalised(by_score) + staleness * normalised(waited)


def draw(key: jax.Array, chances: jax.Array, count: int) -> jax.Array:
    """Draw slots one after the other without replacement: int32 `[count]`.

    By the order of perturbed log-chances (Gumbel top-k; Kool et al. 2019), so that the first m are
    a draw of m. NOT_KEPT where no level with a chance is left.
    """
    noise = jax.random.gumbel(key, chances.shape)
    found, slot = jax.lax.top_k(jnp.log(chances) + noise, count)
    return jnp.where(jnp.isfinite(found), slot, NOT_KEPT).astype(jnp.int32)


def take(buffer: Buffer, slot: jax.Array) -> Buffer:
    """Mark drawn slots `[n]` as in use; NOT_KEPT are passed over. The clock advances."""
    where = _where(buffer, slot)
    clock = buffer.clock + 1
    return buffer._replace(
        in_use=buffer.in_use.at[where].set(True, mode="drop"),
        last_visit=buffer.last_visit.at[where].set(clock, mode="drop"),
        clock=clock,
    )


def report(buffer: Buffer, visits: Visits) -> Buffer:
    """Learn of visits that are over, one after the other.

    A level that was drawn gets its new score and is no longer in use. Another one enters where
    there is room, or else in place of the lowest score that is not in use, if its own is higher;
    should it be here already, that one gets its score. A score that is not finite changes nothing.
    """
    chex.assert_equal_shape([visits.slot, visits.score, visits.best_return, visits.over])
    fingerprints = jax.vmap(fingerprint)(visits.levels)
    order = jnp.argsort(~visits.over, stable=True)

    def one(i: jax.Array, buffer: Buffer) -> Buffer:
        i = order[i]
        slot, score = visits.slot[i], visits.score[i]
        level = jax.tree.map(lambda x: x[i], visits.levels)
        drawn, sound = slot != NOT_KEPT, jnp.isfinite(score)

        alike = jnp.argmax(buffer.filled & (buffer.fingerprint == fingerprints[i]))
        known = _equal(level, jax.tree.map(lambda x: x[alike], buffer.levels))
        known &= buffer.filled[alike]
        standing = jnp.where(buffer.filled, buffer.score, -jnp.inf)
        standing = jnp.where(buffer.in_use, jnp.inf, standing)
        lowest = jnp.argmin(standing)
        enters = ~drawn & ~known & sound & (score > standing[lowest])

        place = jnp.where(drawn, slot, jnp.where(known, alike, lowest))
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

    return jax.lax.fori_loop(0, visits.over.sum(), one, buffer)


def fingerprint(level: Any) -> jax.Array:
    """Hash a level, uint32: equal ones have equal hashes, others hardly ever."""
    total = jnp.uint32(0)
    for i, leaf in enumerate(jax.tree.leaves(level)):
        words = leaf.ravel()
        if jnp.issubdtype(words.dtype, jnp.floating):
            words = jax.lax.bitcast_convert_type(words.astype(jnp.float32), jnp.uint32)
        odd = np.random.default_rng(i).integers(2**32, size=words.size, dtype=np.uint32) | 1
        total += jnp.sum(words.astype(jnp.uint32) * odd, dtype=jnp.uint32)
    return total


def _equal(a: Any, b: Any) -> jax.Array:
    same = [jnp.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)]
    return jnp.all(jnp.stack(same))


def _where(buffer: Buffer, slot: jax.Array) -> jax.Array:
    """Slots to index with: one too many where there is none, as negative ones would wrap."""
    return jnp.where(slot == NOT_KEPT, buffer.capacity, slot)
