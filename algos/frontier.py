"""Frontier replay: the levels that a student solves sometimes, found while it trains.

Sampling for learnability (`sfl.py`) spends environment steps on a search for levels that are solved
half of the time. Here the student's own training finds them. Every level that is kept has an
estimate p of how often it is solved. In every update:

    draw a share of the levels from those that are kept; the others are new   # all are learned on
    move p of every level towards the fraction that the student solved
    keep the levels of the highest learnability p(1 - p)

A new level begins at a p near 1. So one failure makes it worth another visit, and one success does
not. A level that is never solved is dropped after a few visits. A new level without a solution,
whose optimal return is 0, is never kept. The first levels are random, with p = 1. Some may have no
solution, and stay until others have taken their places.

`student.make(agent, env, frontier.curriculum(sample_level), optimal_return)` is the whole
algorithm. It comes from this repository, and is not published elsewhere.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Metrics
from purejaxrl.ued import student
from purejaxrl.ued.buffer import NOT_KEPT, Visits, index_of
from purejaxrl.ued.curriculum import Chosen, Curriculum, Draw, SampleLevel, sample_new
from purejaxrl.ued.scores import solve_rate
from purejaxrl.validation import COUNT, hyper, is_count


class Frontier(struct.PyTreeNode):
    """How levels are estimated and replayed. Traced."""

    share: float = hyper(0.5, at_least=0, at_most=1)
    """Probability that a level is one of those that are kept; otherwise it is new."""
    step_size: float = hyper(0.5, above=0, at_most=1)
    """How far a visit moves p."""
    prior: float = hyper(0.9, at_least=0, at_most=1)
    """p of a level before its first visit."""


class State(NamedTuple):
    """The levels that are kept, leaves `[num_kept, ...]`."""

    levels: Any
    rate: jax.Array  # float32, p
    in_use: jax.Array  # bool, drawn and not reported yet: neither drawn again nor replaced


def hypers(agent: Any) -> student.Hypers:
    """Return the default hyperparameters around the agent's."""
    return student.Hypers(agent, Frontier())


def learnability(rate: jax.Array) -> jax.Array:
    """Compute p(1 - p), the variance of whether a level is solved."""
    return rate * (1 - rate)


def curriculum(sample_level: SampleLevel, num_kept: int = 128) -> Curriculum:
    """Make the curriculum.

    Args:
        sample_level: draws a new level.
        num_kept: levels that are kept, at least the number that are drawn at a time.

    Raises:
        ValueError: if `num_kept` is not valid.
    """
    if not is_count(num_kept):
        raise ValueError(f"num_kept: {num_kept!r} is not valid; it must be {COUNT}")

    def init(key: jax.Array, hypers: Frontier, num_levels: int) -> State:
        levels = sample_new(key, sample_level, num_kept).level
        return State(levels, jnp.ones(num_kept), jnp.zeros(num_kept, bool))

    def sample(key: jax.Array, state: State, hypers: Frontier, wanted: jax.Array, play: Any):
        coin_key, slot_key, new_key = jax.random.split(key, 3)
        order = jnp.where(state.in_use, -1.0, jax.random.uniform(slot_key, (num_kept,)))
        free, slot = jax.lax.top_k(order, wanted.size)
        is_replay = (
            wanted & (free >= 0) & jax.random.bernoulli(coin_key, hypers.share, wanted.shape)
        )
        slot = jnp.where(is_replay, slot, NOT_KEPT).astype(jnp.int32)
        new = sample_new(new_key, sample_level, wanted.size)
        kept = Chosen(jax.tree.map(lambda x: x[slot], state.levels), slot, new.best_return)
        chosen = jax.vmap(tree_where)(is_replay, kept, new)
        in_use = state.in_use.at[index_of(slot, num_kept)].set(True, mode="drop")
        return state._replace(in_use=in_use), Draw(chosen)

    def report(state: State, hypers: Frontier, visits: Visits) -> State:
        is_new = visits.slot == NOT_KEPT
        before = jnp.where(is_new, hypers.prior, state.rate[visits.slot])
        sound = visits.finished & jnp.isfinite(visits.score)  # NaN: none finished, or no solution
        rate = jnp.where(sound, before + hypers.step_size * (visits.score - before), before)
        place = index_of(jnp.where(visits.finished, visits.slot, NOT_KEPT), num_kept)
        state = state._replace(
            rate=state.rate.at[place].set(rate, mode="drop"),
            in_use=state.in_use.at[place].set(False, mode="drop"),
        )
        return keep(state, visits.levels, jnp.where(is_new & sound, rate, jnp.nan))

    return Curriculum(
        init, sample, sample_level, report, metrics,
        score=solve_rate, hypers=Frontier, capacity=num_kept,
    )  # fmt: skip


def keep(state: State, levels: Any, rate: jax.Array) -> State:
    """Replace the levels of the lowest learnability by new ones of higher learnability.

    Args:
        state: the levels that are kept.
        levels: new ones, leaves `[n, ...]`.
        rate: p of each, float32 `[n]`; NaN: it is not to be kept.
    """
    value = jnp.where(state.in_use, jnp.inf, learnability(state.rate))
    lowest, place = jax.lax.top_k(-value, rate.size)
    offered, index = jax.lax.top_k(jnp.where(jnp.isnan(rate), -1.0, learnability(rate)), rate.size)
    place = jnp.where(offered > -lowest, place, value.size)
    put = lambda all, new: all.at[place].set(new[index], mode="drop")  # noqa: E731
    return state._replace(
        levels=jax.tree.map(put, state.levels, levels), rate=put(state.rate, rate)
    )


def metrics(state: State) -> Metrics:
    """Describe the levels that are kept: their mean p, and their mean learnability."""
    return {"rate_kept": state.rate.mean(), "score_kept": learnability(state.rate).mean()}
