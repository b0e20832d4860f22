"""Robust prioritised level replay, PLR⊥ (Jiang et al. 2021, arXiv 2110.02439, algorithm 2).

The student learns only on levels that the scores selected. In one update:

    flip one coin for all levels
    heads: replay levels from the buffer              # the student learns
    tails: draw new levels                            # the student only plays them
    score the levels by the student's experience      # before it learns, by ued/student.py
    keep the levels with the highest scores in the buffer

`student.make(agent, env, plr.curriculum(sample_level))` is the whole algorithm.
"""

from typing import Any

import jax
import jax.numpy as jnp
from optax.tree_utils import tree_where

from purejaxrl.ued import buffer as buffers
from purejaxrl.ued.buffer import Buffer
from purejaxrl.ued.curriculum import (
    Curriculum,
    Draw,
    Replay,
    SampleLevel,
    decide_replay,
    recall_levels,
    sample_new,
    with_buffer,
)
from purejaxrl.ued.scores import Score, positive_value_loss
from purejaxrl.ued.student import Hypers


def hypers(agent: Any) -> Hypers:
    """Return PLR's default hyperparameters around the agent's.

    The published code begins to replay at 2,000 levels, half of its buffer, which takes 63 of its
    30,000 updates. In shorter runs too many updates would be without a gradient, so here replay
    begins after four draws of levels.
    """
    replay = Replay(replay_prob=0.5, temperature=0.3, staleness=0.3, min_draws=4.0)
    return Hypers(agent, replay)


def curriculum(
    sample_level: SampleLevel, score: Score = positive_value_loss, capacity: int = 4000
) -> Curriculum:
    """Make the curriculum of robust PLR.

    Args:
        sample_level: draws a new level.
        score: scores a level, as in `ued/scores.py`.
        capacity: slots of the buffer; at least the number of the student's environments.

    Raises:
        ValueError: if the capacity is not valid.
    """

    def sample(key: jax.Array, buffer: Buffer, hypers: Replay, wanted: jax.Array, play: Any):
        draw = replay_or_explore(key, buffer, hypers, sample_level, wanted.size)
        return buffers.mark_in_use(buffer, draw.chosen.slot), draw

    return with_buffer(sample, sample_level, score, capacity)._replace(explores=True)


def replay_or_explore(
    key: jax.Array, buffer: Buffer, hypers: Replay, sample_level: SampleLevel, count: int
) -> Draw:
    """Flip one coin for all: replay `count` levels from the buffer, or draw as many new ones."""
    coin_key, draw_key, new_key = jax.random.split(key, 3)
    chances = buffers.log_chances(buffer, hypers.temperature, hypers.staleness)
    enough = (chances > -jnp.inf).sum() >= count
    learns = decide_replay(coin_key, buffer, hypers, count) & enough
    known = recall_levels(buffer, buffers.draw(draw_key, chances, count))
    new = sample_new(new_key, sample_level, count)
    return Draw(tree_where(learns, known, new), learns)
