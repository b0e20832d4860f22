"""ACCEL: evolving curricula with regret-based environment design (Parker-Holder et al. 2022).

arXiv 2203.01302, algorithm 1. A fork of `plr.py`: after an update that replayed levels, the next
update plays edits of those levels instead of new ones. Small edits and selection by score lead from
simple levels, such as mazes without walls, to complex ones.

    the last update replayed levels: edit them        # the student only plays the edits
    otherwise: replay or explore, as in PLR
    score the levels, and keep those with the highest scores in the buffer

`student.make(agent, env, accel.curriculum(sample_level, mutate))` is the whole algorithm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from optax.tree_utils import tree_where

from algos import plr
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued.buffer import Buffer, Visits
from purejaxrl.ued.curriculum import (
    Curriculum,
    Draw,
    Replay,
    SampleLevel,
    new_levels,
    sample_new,
)
from purejaxrl.ued.scores import Score, positive_value_loss
from purejaxrl.ued.student import Hypers

Mutate = Callable[[jax.Array, Any], Any]
"""`(key, level) -> level`: a small random edit."""


def hypers(agent: Any) -> Hypers:
    """Return ACCEL's default hyperparameters around the agent's; it replays more than PLR."""
    replay = Replay(replay_prob=0.8, temperature=0.3, staleness=0.3, min_draws=4.0)
    return Hypers(agent, replay)


class State(NamedTuple):
    """The levels that are kept, and those of the last update, leaves `[num_levels, ...]`."""

    buffer: Buffer
    last: Any
    replayed: jax.Array  # bool []: the last levels were replayed, so that they are edited next


def curriculum(
    sample_level: SampleLevel,
    mutate: Mutate,
    score: Score = positive_value_loss,
    capacity: int = 4000,
) -> Curriculum:
    """Make ACCEL's curriculum; the arguments are those of PLR's, and `mutate` edits a level."""
    replay = plr.curriculum(sample_level, score, capacity)

    def init(key: jax.Array, hypers: Replay, num_levels: int) -> State:
        first = sample_new(key, sample_level, num_levels).level
        return State(replay.init(key, hypers, num_levels), first, jnp.bool_(False))

    def sample(key: jax.Array, state: State, hypers: Replay, wanted: jax.Array, play: Any):
        edit_key, choice_key = jax.random.split(key)
        draw = plr.replay_or_explore(choice_key, state.buffer, hypers, sample_level, wanted.size)
        children = jax.vmap(mutate)(jax.random.split(edit_key, wanted.size), state.last)
        edits = Draw(new_levels(children), learns=jnp.bool_(False))
        draw = tree_where(state.replayed, edits, draw)
        buffer = buffers.mark_in_use(state.buffer, draw.chosen.slot)
        return State(buffer, draw.chosen.level, draw.learns), draw

    def report(state: State, hypers: Replay, visits: Visits) -> State:
        return state._replace(buffer=replay.report(state.buffer, hypers, visits))

    def metrics(state: State) -> dict[str, jax.Array]:
        return replay.metrics(state.buffer)

    return replay._replace(init=init, sample=sample, report=report, metrics=metrics)
