"""Sampling for learnability, SFL (Rutherford et al. 2024, arXiv 2408.15099, algorithm 1).

A student learns most on levels that it sometimes solves. So now and then it plays many random
levels, without learning from them, and those of the highest learnability p(1 - p) are kept, where p
is the rate of success. Until the next search it trains on them, and on new random levels:

    every `every` updates:
        draw random levels, and play them                     # in batches; nothing is learned
        keep the levels with the highest scores
    in every update, draw a share of the levels from those that are kept; the others are new

A search takes `search_steps` environment steps, which are counted.

Two algorithms are in this file, which differ in the score of the search: `learnability` is SFL, and
`true_regret` searches for the levels on which the student is furthest below the optimum.
`student.make(agent, env, sfl.curriculum(config, sample_level), optimal_return)` is the whole
algorithm.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Metrics
from purejaxrl.parts.branches import compute_if
from purejaxrl.ued import student
from purejaxrl.ued.curriculum import Curriculum, Draw, Play, SampleLevel, new_levels, sample_new
from purejaxrl.ued.scores import Score, learnability, score_each
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static.

    The published search plays 25,000 mazes for 2,000 steps each, every 100 updates of 65,536 steps.
    That is seven times the steps of training; the defaults here are for shorter runs.
    """

    every: int = 50
    """Updates from one search to the next."""
    batch_size: int = 200
    """Levels that are played at a time in a search."""
    num_batches: int = 2
    """Batches of a search."""
    num_steps: int = 1000
    """Steps for which a level is played. With less than several time limits, a level that is solved
    half of the time cannot be told from one that is always solved."""
    num_kept: int = 64
    """Levels that are kept."""

    def __post_init__(self):
        require_count(self, "every", "batch_size", "num_batches", "num_steps", "num_kept")
        least = self.batch_size * self.num_batches
        require(self.num_kept <= least, self, "num_kept", f"at most the {least} levels of a search")

    @property
    def search_steps(self) -> int:
        """Environment steps of a search."""
        return self.batch_size * self.num_batches * self.num_steps


class Search(struct.PyTreeNode):
    """How the levels that were found are used. Traced."""

    share: float = hyper(0.5, at_least=0, at_most=1)
    """ρ, the share of an update's levels that are drawn from those that were kept."""


class State(NamedTuple):
    """The levels that the last search kept, leaves `[num_kept, ...]`."""

    levels: Any
    score: jax.Array  # float32; -inf: a random level without a score from a search
    age: jax.Array  # int32, draws so far


def hypers(agent: Any) -> student.Hypers:
    """Return the default hyperparameters around the agent's."""
    return student.Hypers(agent, Search())


def curriculum(
    config: Config, sample_level: SampleLevel, score: Score = learnability
) -> Curriculum:
    """Make the curriculum.

    Args:
        config: static settings.
        sample_level: draws a new level.
        score: scores a level that was played, from its returns and the optimal one.
    """

    def init(key: jax.Array, hypers: Search, num_levels: int) -> State:
        levels = sample_new(key, sample_level, config.num_kept).level
        return State(levels, jnp.full(config.num_kept, -jnp.inf, jnp.float32), jnp.int32(0))

    def sample(key: jax.Array, state: State, hypers: Search, wanted: jax.Array, play: Play):
        search_key, slot_key, new_key, round_key = jax.random.split(key, 4)
        searches = state.age % config.every == 0
        levels, scores = compute_if(
            searches,
            lambda key: search(key, config, sample_level, score, play, state.levels),
            search_key,
            (state.levels, state.score),
        )
        slots = jax.random.randint(slot_key, wanted.shape, 0, config.num_kept)
        found = new_levels(jax.tree.map(lambda x: x[slots], levels))
        new = sample_new(new_key, sample_level, wanted.size)
        count = jnp.floor(hypers.share * wanted.size + jax.random.uniform(round_key))
        from_kept = jnp.arange(wanted.size) < count  # the share, rounded at random
        chosen = jax.vmap(tree_where)(from_kept, found, new)
        env_steps = jnp.where(searches, config.search_steps, 0)
        return State(levels, scores, state.age + 1), Draw(chosen, env_steps=env_steps)

    return Curriculum(
        init, sample, sample_level, metrics=metrics, hypers=Search, plays=True, search_score=score,
        extra_steps=config.search_steps / config.every,
    )  # fmt: skip


def search(
    key: jax.Array,
    config: Config,
    sample_level: SampleLevel,
    score: Score,
    play: Play,
    levels: Any,
) -> tuple[Any, jax.Array]:
    """Play random levels, and keep those with the highest scores.

    Args:
        key: typed key.
        config: static settings.
        sample_level: draws a new level.
        score: scores a level.
        play: runs the current student.
        levels: `[num_kept, ...]`, which stay where nothing was found.

    Returns:
        The levels, and their scores; -inf where nothing was found.
    """

    def one_batch(best: tuple, key: jax.Array) -> tuple[tuple, None]:
        level_key, play_key, score_key = jax.random.split(key, 3)
        new = sample_new(level_key, sample_level, config.batch_size).level
        outcomes = play(play_key, new, config.num_steps)
        scores = score_each(score, score_key, outcomes)
        scores = jnp.where(jnp.isfinite(scores), scores, -jnp.inf)
        levels, scores = jax.tree.map(lambda *x: jnp.concatenate(x), best, (new, scores))
        scores, slots = jax.lax.top_k(scores, config.num_kept)
        return (jax.tree.map(lambda x: x[slots], levels), scores), None

    nothing = levels, jnp.full(config.num_kept, -jnp.inf, jnp.float32)
    return jax.lax.scan(one_batch, nothing, jax.random.split(key, config.num_batches))[0]


def metrics(state: State) -> Metrics:
    """Describe the scores of the levels that are kept; NaN: the search found none."""
    found = jnp.where(jnp.isfinite(state.score), state.score, jnp.nan)
    return {"score_kept": jnp.nanmean(found), "lowest_score_kept": jnp.nanmin(found)}
