"""ACCEL: evolving curricula with regret-based environment design (Parker-Holder et al. 2022).

arXiv 2203.01302, algorithm 1. A fork of `plr.py`: after an update that replayed levels, the next
one explores edits of those same levels rather than new ones. From simple levels, such as mazes
without walls, selection and small edits build up to complex ones.
"""

from collections.abc import Callable
from typing import Any

import jax
from optax.tree_utils import tree_where

from algos import plr
from algos.plr import Choice, Config, Hypers, State
from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import part_name
from purejaxrl.ued import curriculum as curricula
from purejaxrl.ued.curriculum import Replay
from purejaxrl.ued.scores import positive_value_loss
from purejaxrl.ued.student import OwnLevel

__all__ = ["Config", "Hypers", "hypers", "make"]


def hypers(student: Any) -> Hypers:
    """ACCEL replays more than PLR does."""
    return Hypers(student, Replay(replay_prob=0.8, temperature=0.3, staleness=0.3, min_fill=0.5))


class EditAfterReplay:
    """Edit the levels that were just replayed; else replay or explore."""

    def __init__(self, mutate: Callable):
        """Edit with `mutate(key, level) -> level`."""
        self.mutate = mutate
        self.name = part_name(mutate)

    def __call__(
        self, key: jax.Array, state: State, hypers: Hypers, sample_level: Callable
    ) -> Choice:
        """Choose where the student goes."""
        edit_key, choice_key = jax.random.split(key)
        choice = plr.replay_or_explore(choice_key, state, hypers, sample_level)
        parents, edits = state.last.draw.levels, state.last.learns
        keys = jax.random.split(edit_key, state.student.first.shape[0])
        children = curricula.new(jax.vmap(self.mutate)(keys, parents))
        draw = tree_where(edits, children, choice.draw)
        return Choice(draw, choice.learns & ~edits)


def make(
    config: Config,
    student: Algorithm,
    env: OwnLevel,
    sample_level: Callable,
    mutate: Callable,
    score: Callable = positive_value_loss,
) -> Algorithm:
    """ACCEL; the arguments are those of `plr.make`, and `mutate(key, level) -> level`."""
    return plr.make(config, student, env, sample_level, score, EditAfterReplay(mutate))
