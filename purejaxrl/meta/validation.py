"""Validation of a meta-learner: does what it has learned serve agents better than a reference?

A meta-learner's own metrics come from different lives at every step. Here θ and a reference, such
as the initial rule, train agents in the same whole lives, and every evaluation repeats these lives.
`run(..., evaluator=)` then keeps the best θ.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.identity import fingerprint, part_names
from purejaxrl.meta import evolution
from purejaxrl.meta.base import Insert
from purejaxrl.meta.candidates import CandidateSetup, require_evolvable, set_up
from purejaxrl.meta.evolution import live_generation, rank_unsound_last, rank_within_pair
from purejaxrl.meta.worlds import World, check_worlds, hypers_in
from purejaxrl.running.evaluate import Evaluator
from purejaxrl.ued.curriculum import check_curriculum_hypers

SEED = 7
"""Seed of the lives in all validations."""


def against(
    reference: Any,
    config: evolution.Config,
    worlds: World | Sequence[World],
    insert: Insert,
    hypers: evolution.Hypers,
) -> Evaluator:
    """Evaluate θ by the fraction of lives in which its agents end better than the reference's.

    Both agents of a life have the same level, hyperparameters, length of life and random stream, as
    a pair of candidates has. The score is the mean over worlds of that fraction, ties counting one
    half: 0.5 for the reference itself.

    Args:
        reference: shaped like θ.
        config: `num_pairs` is the number of lives, over all worlds.
        worlds: where agents live.
        insert: puts θ into the agents' hyperparameters.
        hypers: hyperparameters of the agents and of the curricula.

    Raises:
        ValueError: if lives or groups of them cannot be divided among the worlds, or the parts of a
            world do not fit a validation.
    """
    worlds = check_worlds(worlds)
    setups = set_up(config, worlds, insert)
    for one in setups:
        require_evolvable(one, "a validation")
        check_curriculum_hypers(one.world.curriculum, hypers_in(one.world, hypers))

    def play(algorithm: Algorithm, key: jax.Array, theta: Any, _: Any) -> Metrics:
        both = jax.tree.map(lambda *x: jnp.stack(x), theta, reference)
        keys = jax.random.split(jax.random.key(SEED), len(setups))
        found = {
            f"{setup.world.name}/better": _fraction_better(setup, own_key, both, hypers)
            for setup, own_key in zip(setups, keys, strict=True)
        }
        better = jnp.stack(list(found.values())).mean()
        return found | {"return": better, "episodes": jnp.int32(config.num_pairs)}

    compared = ", ".join(part_names(config, reference, hypers, insert))
    lives = {world.name: fingerprint(world.made_of) for world in worlds}
    return Evaluator(play, f"against: {compared}, {lives}", ())


def _fraction_better(
    setup: CandidateSetup, key: jax.Array, both: Any, hypers: evolution.Hypers
) -> jax.Array:
    """Compare two θ, leaves `[2, ...]`, in the lives of one world."""
    own, curriculum, count = hypers_in(setup.world, hypers), setup.world.curriculum, setup.num_pairs
    init_key, life_key = jax.random.split(key)
    buffer = curriculum.init(init_key, own.curriculum, count)
    candidates = jax.tree.map(lambda x: jnp.repeat(x[:, None], count, axis=1), both)
    fitness, _, _ = live_generation(setup, life_key, candidates, buffer, own)
    return rank_within_pair(rank_unsound_last(fitness, jnp.isfinite(fitness)))[0].mean()
