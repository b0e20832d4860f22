"""Curricula: which levels they draw, and what they do with reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.tree_utils import tree_where
from scipy import stats

from purejaxrl.ued import buffer as buffers
from purejaxrl.ued import curriculum as curricula
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.curriculum import Replay
from purejaxrl.validation import check_hypers

CAPACITY, BATCH = 8, 6


def sample_level(key):
    return {"x": jax.random.uniform(key), "n": jnp.int32(0)}


def with_levels(curriculum, scores):
    """A buffer with levels x = 0, 1, 2, … of these scores."""
    count = len(scores)
    levels = {"x": jnp.arange(count, dtype=jnp.float32), "n": jnp.zeros(count, jnp.int32)}
    visits = Visits(
        jnp.full(count, NOT_KEPT), levels, jnp.float32(scores), 10 + jnp.arange(count) * 1.0,
        jnp.ones(count, bool),
    )  # fmt: skip
    return curriculum.report(curriculum.init(), visits)


def full(count=BATCH):
    return jnp.ones(count, bool)


def test_uniform_levels_are_new_and_differ():
    curriculum = curricula.uniform(sample_level)
    state, drawn = curriculum.sample(jax.random.key(0), curriculum.init(), None, full())
    assert state == () and not curriculum.reads_scores
    assert (drawn.slot == NOT_KEPT).all() and len(np.unique(drawn.levels["x"])) == BATCH
    assert (drawn.best_return == -jnp.inf).all()


def test_fixed_levels_are_drawn_uniformly():
    levels = {"x": jnp.arange(5.0)}
    curriculum = curricula.fixed(levels)
    _, drawn = curriculum.sample(jax.random.key(0), curriculum.init(), None, full(5000))
    counts = np.bincount(np.array(drawn.levels["x"], int))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_an_empty_buffer_replays_nothing():
    curriculum = curricula.replay(sample_level, CAPACITY)
    sure = Replay(replay_prob=1.0)
    buffer, drawn = curriculum.sample(jax.random.key(0), curriculum.init(), sure, full())
    assert (drawn.slot == NOT_KEPT).all() and len(np.unique(drawn.levels["x"])) == BATCH
    assert not buffer.in_use.any()


def test_replayed_levels_come_from_the_buffer_and_are_in_use_afterwards():
    curriculum = curricula.replay(sample_level, CAPACITY)
    buffer = with_levels(curriculum, [1.0, 2.0, 3.0, 4.0])
    wanted = jnp.array([True, False, True, True, False, True])
    after, drawn = curriculum.sample(jax.random.key(0), buffer, Replay(replay_prob=1.0), wanted)
    assert sorted(drawn.slot[wanted].tolist()) == [0, 1, 2, 3]
    assert (drawn.slot[~wanted] == NOT_KEPT).all()
    np.testing.assert_array_equal(drawn.levels["x"][wanted], drawn.slot[wanted])
    np.testing.assert_array_equal(drawn.best_return[wanted], 10 + drawn.slot[wanted])
    assert after.in_use.tolist() == [True] * 4 + [False] * 4
    # nothing is left to replay
    _, again = curriculum.sample(jax.random.key(1), after, Replay(replay_prob=1.0), full())
    assert (again.slot == NOT_KEPT).all()


def test_replay_prob_is_the_fraction_of_replayed_levels():
    curriculum = curricula.replay(sample_level, 4000)
    buffer = with_levels(curriculum, list(range(4000)))
    _, drawn = curriculum.sample(jax.random.key(0), buffer, Replay(replay_prob=0.3), full(2000))
    assert stats.binomtest(int((drawn.slot != NOT_KEPT).sum()), 2000, 0.3).pvalue > 1e-3


def test_nothing_is_replayed_before_the_buffer_is_filled_to_min_fill():
    curriculum = curricula.replay(sample_level, CAPACITY)
    buffer = with_levels(curriculum, [1.0, 2.0, 3.0])
    for least, replayed in ((0.5, 0), (0.375, 3)):
        hypers = Replay(replay_prob=1.0, min_fill=least)
        _, drawn = curriculum.sample(jax.random.key(0), buffer, hypers, full())
        assert (drawn.slot != NOT_KEPT).sum() == replayed


def test_metrics_count_the_levels_and_average_their_scores():
    curriculum = curricula.replay(sample_level, CAPACITY)
    metrics = curriculum.metrics(with_levels(curriculum, [1.0, 2.0, 6.0]))
    assert metrics["levels_kept"] == 3 and metrics["score_kept"] == 3.0
    assert jnp.isnan(curriculum.metrics(curriculum.init())["score_kept"])


def test_a_capacity_below_the_batch_is_refused():
    curriculum = curricula.replay(sample_level, BATCH - 1)
    with pytest.raises(ValueError, match="capacity: 5 is not valid; .* >= 6"):
        curriculum.sample(jax.random.key(0), curriculum.init(), Replay(), full())


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("temperature", -1.0), ("replay_prob", 1.5), ("staleness", -0.1)],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Replay\.{field}: {value} is not valid"):
        check_hypers(Replay(**{field: value}))


def test_over_many_rounds_no_level_is_lost_and_none_is_kept_twice():
    """Every drawn level is released when its visit ends, and every new one is kept at most once."""
    curriculum = curricula.replay(sample_level, 50)

    def visit(carry, key):
        buffer, drawn = carry
        over_key, score_key, sample_key = jax.random.split(key, 3)
        over = jax.random.bernoulli(over_key, 0.3, (BATCH,))
        score = jax.random.normal(score_key, (BATCH,))
        buffer = curriculum.report(buffer, Visits(drawn.slot, drawn.levels, score, score, over))
        buffer, going = curriculum.sample(sample_key, buffer, Replay(), over)
        drawn = jax.vmap(tree_where)(over, going, drawn)
        in_use = (
            jnp.zeros(50, bool).at[jnp.where(drawn.slot < 0, 50, drawn.slot)].set(True, mode="drop")
        )
        return (buffer, drawn), (buffer.in_use == in_use).all()

    start = curriculum.sample(jax.random.key(0), curriculum.init(), Replay(), full())
    (buffer, _), agrees = jax.jit(lambda keys: jax.lax.scan(visit, start, keys))(
        jax.random.split(jax.random.key(1), 500)
    )
    assert agrees.all()
    assert buffer.filled.all() and len(np.unique(buffer.levels["x"])) == 50
    assert buffers.probabilities(buffer, 0.3, 0.3)[buffer.in_use].sum() == 0
