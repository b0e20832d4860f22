"""ACCEL: evolving curricula with regret-based environment design (Parker-Holder et al. 2022).

arXiv 2203.01302, algorithm 1. A fork of `plr.py`: after an update that replayed levels, the next
update plays edits of those levels instead of new ones. Small edits and selection by score lead from
simple levels, such as mazes without walls, to complex ones.
"""

from collections.abc import Callable
from typing import Any

import jax
from optax.tree_utils import tree_where

from algos import plr
from algos.plr import Choice, Config, Hypers, State
from purejaxrl.algorithm import Algorithm
from purejaxrl.ued import curriculum as curricula
from purejaxrl.ued.curriculum import Replay, SampleLevel
from purejaxrl.ued.scores import Score, positive_value_loss
from purejaxrl.ued.student import OwnLevel

__all__ = ["Config", "Hypers", "hypers", "make"]

Mutate = Callable[[jax.Array, Any], Any]
"""`(key, level) -> level`: a small random edit."""


def hypers(student: Any) -> Hypers:
    """Return the default hyperparameters around the student's; ACCEL replays more than PLR."""
    return Hypers(student, Replay(replay_prob=0.8, temperature=0.3, staleness=0.3, min_fill=0.5))


class EditAfterReplay:
    """Choose edits of the levels that were just replayed; otherwise replay or explore."""

    def __init__(self, mutate: Mutate):
        """Edit levels with `mutate`."""
        self.mutate = mutate

    def __call__(
        self, key: jax.Array, state: State, hypers: Hypers, sample_level: SampleLevel
    ) -> Choice:
        """Choose the levels of an update."""
        edit_key, choice_key = jax.random.split(key)
        choice = plr.replay_or_explore(choice_key, state, hypers, sample_level)
        parents, edits = state.last.draw.levels, state.last.learns
        keys = jax.random.split(edit_key, state.student.interaction.first.shape[0])
        children = curricula.new_levels(jax.vmap(self.mutate)(keys, parents))
        draw = tree_where(edits, children, choice.draw)
        return Choice(draw, choice.learns & ~edits)


def make(
    config: Config,
    student: Algorithm,
    env: OwnLevel,
    sample_level: SampleLevel,
    mutate: Mutate,
    score: Score = positive_value_loss,
) -> Algorithm:
    """Make ACCEL; the arguments are those of `plr.make`, and `mutate`, which edits a level."""
    return plr.make(config, student, env, sample_level, score, EditAfterReplay(mutate))
