"""Curricula: which level a student trains on next.

A curriculum is pure functions over a state of its own. It is made apart from the learner that uses
it: a student that trains on many levels at once (`student.py`), or a meta-learner whose agents have
one level each (`meta/gradient.py`, `meta/evolution.py`). `require_curriculum` says when the two do
not fit.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Metrics
from purejaxrl.identity import part_name
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued.buffer import NOT_KEPT, Buffer, Priority, Visits
from purejaxrl.ued.scores import LevelOutcome, Score, require_score
from purejaxrl.validation import COUNT, hyper, is_count, require

SampleLevel = Callable[[jax.Array], Any]
"""`(key) -> level`, the `env_params` of an environment."""


class Chosen(NamedTuple):
    """Levels that were chosen, and what is known about them, leaves `[n, ...]`."""

    level: Any
    slot: jax.Array  # int32, the level's slot in a buffer, or NOT_KEPT
    best_return: jax.Array  # float32, the highest return of any student; -inf if unknown


class Draw(NamedTuple):
    """What a curriculum decides for one update of a student."""

    chosen: Chosen
    learns: jax.Array = np.bool_(True)  # bool []: the student learns from its experience on them
    env_steps: jax.Array = np.int32(0)  # int32 []: environment steps other than the student's own
    lesson: Any = ()  # what `report` needs to know of this draw, as `Visits.lesson`


Play = Callable[[jax.Array, Any, int], LevelOutcome]
"""`(key, levels, num_steps) -> outcomes`: runs the current student on levels `[m, ...]`, without
learning. Returns are float32 `[num_steps, m]`, of the episode that ends at a step; otherwise NaN.
It takes `m * num_steps` environment steps, which a curriculum adds to `Draw.env_steps`."""
Sample = Callable[[jax.Array, Any, Any, jax.Array, Play | None], tuple[Any, Draw]]
"""`(key, state, hypers, wanted, play) -> (state, draw)`: draws n levels. `wanted`, bool `[n]`, says
which of them will be used; the others change nothing."""


class Curriculum(NamedTuple):
    """A way to choose levels."""

    init: Callable[[jax.Array, Any, int], Any]
    """`(key, hypers, n) -> state`, for draws of n levels."""
    sample: Sample
    sample_level: SampleLevel
    """Draws one level without a state: the level that a student is made on."""
    report: Callable[[Any, Any, Visits], Any] = lambda state, hypers, visits: state
    """`(state, hypers, visits) -> state`: records finished visits, with their scores."""
    metrics: Callable[[Any], Metrics] = lambda state: {}
    """`(state) -> metrics`"""
    score: Score | None = None
    """Scores the levels that were visited; None: `report` is not called."""
    hypers: type | None = None
    """The class of its hyperparameters; None: it has none."""
    capacity: int | None = None
    """Most levels that it can draw at a time; None: any number."""
    explores: bool = False
    """Whether `Draw.learns` can be False."""
    plays: bool = False
    """Whether `sample` calls `play`."""
    search_score: Score | None = None
    """Scores the levels that `sample` plays, from returns and, if it reads it, the optimal one."""
    teaches: int | None = None
    """For a teacher that learns: the number of levels it makes for an update. `report` needs the
    visits to all of them at once. None: there is no teacher."""
    extra_steps: float = 0.0
    """Environment steps of an update other than the student's own, on average."""
    with_horizon: Callable[[Any, jax.Array], Any] = lambda state, horizon: state
    """`(state, horizon) -> state`: tells the agents of a curriculum how many updates they live."""
    vital: Callable[[Any], Any] = lambda state: ()
    """`(state) ->` the leaves that must stay finite, for `Algorithm.vital`."""


def require_curriculum(
    curriculum: Curriculum,
    learner: str,
    num_levels: int,
    provided: Collection[str],
    *,
    explores: bool = False,
    plays: bool = False,
    teaches: bool = False,
) -> None:
    """Raise a ValueError unless a learner can use a curriculum, when the two are composed.

    Args:
        curriculum: the curriculum.
        learner: what uses it, such as "evolution".
        num_levels: levels that it draws at a time.
        provided: the fields of a `LevelOutcome` that it provides for a score.
        explores: whether it can act on a level without learning from it.
        plays: whether it has one current student, with a policy to play.
        teaches: whether it visits all levels in the update for which they were drawn.
    """
    name = part_name(curriculum.sample).split(".<locals>")[0].split("(")[0]
    if curriculum.explores and not explores:
        raise ValueError(
            f"curriculum: {name} is not valid; it explores levels without learning from them, "
            f"which {learner} cannot do"
        )
    if curriculum.plays and not plays:
        raise ValueError(
            f"curriculum: {name} is not valid; it plays levels with the current student, and "
            f"{learner} has none"
        )
    if curriculum.teaches is not None and not teaches:
        raise ValueError(
            f"curriculum: {name} is not valid; its teacher learns from visits to all its levels at "
            f"once, which {learner} cannot provide"
        )
    if curriculum.teaches not in (None, num_levels):
        raise ValueError(
            f"curriculum: {name} is not valid; its teacher makes {curriculum.teaches} levels at a "
            f"time, and {learner} draws {num_levels}"
        )
    if curriculum.capacity is not None and curriculum.capacity < num_levels:
        raise ValueError(
            f"capacity: {curriculum.capacity} is not valid; it must be an integer >= {num_levels}, "
            "the number of levels that are drawn at a time"
        )
    if curriculum.score:
        require_score(curriculum.score, learner, provided)
    if curriculum.search_score:
        known = {"returns", "best_return", "optimal_return"} & set(provided)
        require_score(curriculum.search_score, f"a search by {learner}", known)


def check_curriculum_hypers(curriculum: Curriculum, hypers: Any) -> None:
    """Raise a ValueError unless `hypers.curriculum` is of the curriculum's class."""
    expected = curriculum.hypers
    if expected is not None:
        valid = isinstance(hypers.curriculum, expected)
        require(valid, hypers, "curriculum", f"a {expected.__name__}, its hyperparameters")


def uniform(sample_level: SampleLevel) -> Curriculum:
    """Make a curriculum of levels that are all new.

    For a student, this is domain randomisation (Tobin et al. 2017, arXiv 1703.06907).
    """

    def sample(key: jax.Array, state: tuple, hypers: Any, wanted: jax.Array, play: Any):
        return state, Draw(sample_new(key, sample_level, wanted.size))

    return Curriculum(_no_state, sample, sample_level)


def fixed(levels: Any) -> Curriculum:
    """Make a curriculum that draws uniformly from the given levels `[m, ...]`."""
    num_levels = jax.tree.leaves(levels)[0].shape[0]

    def at(index: jax.Array) -> Any:
        return jax.tree.map(lambda x: x[index], levels)

    def sample(key: jax.Array, state: tuple, hypers: Any, wanted: jax.Array, play: Any):
        return state, Draw(new_levels(at(jax.random.randint(key, wanted.shape, 0, num_levels))))

    return Curriculum(_no_state, sample, lambda key: at(jax.random.randint(key, (), 0, num_levels)))


class Replay(struct.PyTreeNode):
    """How levels are replayed. Traced."""

    replay_prob: float = hyper(0.5, at_least=0, at_most=1)
    """Probability that a level comes from the buffer; otherwise it is new."""
    temperature: float = hyper(0.3, above=0)
    """β of the priorities; the lower, the greedier."""
    staleness: float = hyper(0.3, at_least=0, at_most=1)
    """ρ, weight of the time since a level's last visit."""
    min_draws: float = hyper(0.0, at_least=0)
    """Levels that must be in the buffer before anything is replayed, in multiples of those that are
    drawn at a time; a full buffer is always enough."""


def decide_replay(
    key: jax.Array, buffer: Buffer, hypers: Replay, num_levels: int, shape: tuple = ()
) -> jax.Array:
    """Decide at random where to replay a level and where to draw a new one: bool `[*shape]`.

    Args:
        key: typed key.
        buffer: the levels that can be replayed.
        hypers: how levels are replayed.
        num_levels: levels that are drawn at a time.
        shape: the shape of the decisions.
    """
    filled = buffer.filled.sum()
    least = jnp.minimum(hypers.min_draws * num_levels, buffer.capacity)
    enough = (filled > 0) & (filled >= least)
    chance = jnp.where(enough, hypers.replay_prob, 0.0)
    return jax.random.uniform(key, shape) < chance


def replay(
    sample_level: SampleLevel,
    score: Score,
    capacity: int = 4000,
    priority: Priority = buffers.by_rank,
) -> Curriculum:
    """Make a curriculum of prioritised level replay (PLR): replayed levels among new ones.

    Each level is replayed or new by its own coin flip; `algos/plr.py` flips one coin for all.

    Args:
        sample_level: draws a new level.
        score: scores a level, as in `ued/scores.py`.
        capacity: slots of the buffer; at least the number of levels that are drawn at a time.
        priority: `buffer.by_rank` or `buffer.in_proportion`.

    Raises:
        ValueError: if the capacity is not valid.
    """

    def sample(key: jax.Array, buffer: Buffer, hypers: Replay, wanted: jax.Array, play: Any):
        coin_key, draw_key, new_key = jax.random.split(key, 3)
        replayed = wanted & decide_replay(coin_key, buffer, hypers, wanted.size, wanted.shape)
        chances = buffers.log_chances(buffer, hypers.temperature, hypers.staleness, priority)
        drawn = buffers.draw(draw_key, chances, wanted.size)
        slot = jnp.where(replayed, drawn[jnp.cumsum(replayed) - 1], NOT_KEPT)
        known = recall_levels(buffer, slot)
        new = sample_new(new_key, sample_level, wanted.size)
        chosen = jax.vmap(tree_where)(slot != NOT_KEPT, known, new)
        return buffers.mark_in_use(buffer, slot), Draw(chosen)

    return with_buffer(sample, sample_level, score, capacity)


def with_buffer(
    sample: Sample, sample_level: SampleLevel, score: Score, capacity: int
) -> Curriculum:
    """Make a curriculum whose state is a buffer of levels, from its `sample`.

    Args:
        sample: draws levels, and marks those of the buffer as in use.
        sample_level: draws a new level.
        score: scores a level.
        capacity: slots of the buffer.

    Raises:
        ValueError: if the capacity is not valid.
    """
    if not is_count(capacity):
        raise ValueError(f"capacity: {capacity!r} is not valid; it must be {COUNT}")

    def init(key: jax.Array, hypers: Any, num_levels: int) -> Buffer:
        return buffers.empty(jax.eval_shape(sample_level, key), capacity)

    def report(buffer: Buffer, hypers: Any, visits: Visits) -> Buffer:
        return buffers.report(buffer, visits)

    return Curriculum(
        init, sample, sample_level, report, buffer_metrics,
        score=score, hypers=Replay, capacity=capacity,
    )  # fmt: skip


def recall_levels(buffer: Buffer, slot: jax.Array) -> Chosen:
    """Look up the levels in slots `[n]`; for NOT_KEPT, the level is arbitrary."""
    at = lambda x: x[jnp.maximum(slot, 0)]  # noqa: E731
    return Chosen(jax.tree.map(at, buffer.levels), slot, at(buffer.best_return))


def sample_new(key: jax.Array, sample_level: SampleLevel, count: int) -> Chosen:
    """Draw new levels."""
    return new_levels(jax.vmap(sample_level)(jax.random.split(key, count)))


def new_levels(levels: Any) -> Chosen:
    """Choose levels `[n, ...]` that no student has visited yet."""
    count = jax.tree.leaves(levels)[0].shape[0]
    unknown = jnp.full(count, -jnp.inf, jnp.float32)
    return Chosen(levels, jnp.full(count, NOT_KEPT, jnp.int32), unknown)


def buffer_metrics(buffer: Buffer) -> Metrics:
    """Count the levels in a buffer, and average their scores; NaN if it is empty."""
    count = buffer.filled.sum()
    total = jnp.where(buffer.filled, buffer.score, 0.0).sum()
    return {
        "levels_kept": count,
        "score_kept": jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan),
    }


def _no_state(key: jax.Array, hypers: Any, num_levels: int) -> tuple:
    return ()
