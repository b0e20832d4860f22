"""Curricula: which levels they draw, and what they do with reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.tree_utils import tree_where
from scipy import stats

from algos import plr
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued import curriculum as curricula
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.curriculum import Replay, require_curriculum
from purejaxrl.ued.scores import algorithmic_regret, learnability, positive_value_loss
from purejaxrl.validation import check_hypers

CAPACITY, BATCH = 8, 6


def sample_level(key):
    return {"x": jax.random.uniform(key), "n": jnp.int32(0)}


def replay(capacity=CAPACITY):
    return curricula.replay(sample_level, positive_value_loss, capacity)


def empty(curriculum):
    return jax.jit(lambda: curriculum.init(jax.random.key(0), Replay(), BATCH))()


def draw(curriculum, state, hypers=None, wanted=None, seed=0):
    """The state and the chosen levels, drawn without a student."""
    wanted = full() if wanted is None else wanted
    sample = jax.jit(lambda *args: curriculum.sample(*args, None))
    state, drawn = sample(jax.random.key(seed), state, hypers, wanted)
    assert drawn.learns and drawn.env_steps == 0
    return state, drawn.chosen


def with_levels(curriculum, scores):
    """A buffer with levels x = 0, 1, 2, … of these scores."""
    count = len(scores)
    levels = {"x": jnp.arange(count, dtype=jnp.float32), "n": jnp.zeros(count, jnp.int32)}
    visits = Visits(
        jnp.full(count, NOT_KEPT), levels, jnp.float32(scores), 10 + jnp.arange(count) * 1.0,
        jnp.ones(count, bool),
    )  # fmt: skip
    return jax.jit(curriculum.report)(empty(curriculum), Replay(), visits)


def full(count=BATCH):
    return jnp.ones(count, bool)


def test_uniform_levels_are_new_and_differ():
    curriculum = curricula.uniform(sample_level)
    state, drawn = draw(curriculum, empty(curriculum))
    assert state == () and curriculum.score is None
    assert (drawn.slot == NOT_KEPT).all() and len(np.unique(drawn.level["x"])) == BATCH
    assert (drawn.best_return == -jnp.inf).all()


def test_fixed_levels_are_drawn_uniformly():
    levels = {"x": jnp.arange(5.0)}
    curriculum = curricula.fixed(levels)
    _, drawn = draw(curriculum, empty(curriculum), wanted=full(5000))
    counts = np.bincount(np.array(drawn.level["x"], int), minlength=5)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_an_empty_buffer_replays_nothing():
    curriculum = replay(CAPACITY)
    sure = Replay(replay_prob=1.0)
    buffer, drawn = draw(curriculum, empty(curriculum), sure)
    assert (drawn.slot == NOT_KEPT).all() and len(np.unique(drawn.level["x"])) == BATCH
    assert not buffer.in_use.any()


def test_replayed_levels_come_from_the_buffer_and_are_in_use_afterwards():
    curriculum = replay(CAPACITY)
    buffer = with_levels(curriculum, [1.0, 2.0, 3.0, 4.0])
    wanted = jnp.array([True, False, True, True, False, True])
    after, drawn = draw(curriculum, buffer, Replay(replay_prob=1.0), wanted)
    assert sorted(drawn.slot[wanted].tolist()) == [0, 1, 2, 3]
    assert (drawn.slot[~wanted] == NOT_KEPT).all()
    np.testing.assert_array_equal(drawn.level["x"][wanted], drawn.slot[wanted])
    np.testing.assert_array_equal(drawn.best_return[wanted], 10 + drawn.slot[wanted])
    assert after.in_use.tolist() == [True] * 4 + [False] * 4
    # nothing is left to replay
    _, again = draw(curriculum, after, Replay(replay_prob=1.0), seed=1)
    assert (again.slot == NOT_KEPT).all()


def test_replay_prob_is_the_fraction_of_replayed_levels():
    curriculum = replay(4000)
    buffer = with_levels(curriculum, list(range(4000)))
    _, drawn = draw(curriculum, buffer, Replay(replay_prob=0.3), full(2000))
    assert stats.binomtest(int((drawn.slot != NOT_KEPT).sum()), 2000, 0.3).pvalue > 1e-3


def test_nothing_is_replayed_before_the_buffer_holds_enough_draws():
    curriculum = replay(CAPACITY)
    buffer = with_levels(curriculum, [1.0, 2.0, 3.0])
    for least, replayed in ((0.6, 0), (0.5, 3)):
        hypers = Replay(replay_prob=1.0, min_draws=least)
        _, drawn = draw(curriculum, buffer, hypers)
        assert (drawn.slot != NOT_KEPT).sum() == replayed


def test_a_large_buffer_does_not_delay_replay():
    """Half of 4,000 levels took 63 updates of 32: a tenth of a run of 610."""
    curriculum = replay(4000)
    buffer = with_levels(curriculum, list(range(4 * BATCH)))
    hypers = plr.hypers(None).curriculum.replace(replay_prob=1.0)
    _, drawn = draw(curriculum, buffer, hypers)
    assert (drawn.slot != NOT_KEPT).all()


def test_a_full_buffer_is_enough_to_replay():
    curriculum = replay(CAPACITY)
    buffer = with_levels(curriculum, list(range(CAPACITY)))
    _, drawn = draw(curriculum, buffer, Replay(replay_prob=1.0, min_draws=9.0))
    assert (drawn.slot != NOT_KEPT).all()


def test_metrics_count_the_levels_and_average_their_scores():
    curriculum = replay(CAPACITY)
    metrics = curriculum.metrics(with_levels(curriculum, [1.0, 2.0, 6.0]))
    assert metrics["levels_kept"] == 3 and metrics["score_kept"] == 3.0
    assert jnp.isnan(curriculum.metrics(empty(curriculum))["score_kept"])


NAME = "purejaxrl.ued.curriculum"
UNFIT = {
    "capacity": (replay(BATCH - 1), {}, "capacity: 5 is not valid; .* >= 6"),
    "exploration": (
        curricula.uniform(sample_level)._replace(explores=True),
        {},
        f"curriculum: {NAME}.uniform is not valid; it explores .* which evolution cannot do",
    ),
    "play": (
        curricula.fixed({"x": jnp.zeros(2)})._replace(plays=True),
        {"explores": True},
        f"curriculum: {NAME}.fixed is not valid; it plays levels .* evolution has none",
    ),
    "score": (
        curricula.replay(sample_level, algorithmic_regret),
        {},
        "score: .*algorithmic_regret is not valid; it reads antagonist_returns, which evolution",
    ),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_curriculum_that_does_not_fit_is_refused(reason):
    curriculum, can, message = UNFIT[reason]
    with pytest.raises(ValueError, match=message):
        require_curriculum(curriculum, "evolution", BATCH, {"returns", "best_return"}, **can)


def test_a_curriculum_that_fits_is_accepted():
    curriculum = curricula.replay(sample_level, learnability, BATCH)
    require_curriculum(curriculum, "evolution", BATCH, {"returns", "best_return"})


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.0), ("temperature", -1.0), ("replay_prob", 1.5), ("staleness", -0.1)],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Replay\.{field}: {value} is not valid"):
        check_hypers(Replay(**{field: value}))


def test_over_many_rounds_no_level_is_lost_and_none_is_kept_twice():
    """Every drawn level is released when its visit ends, and every new one is kept at most once."""
    curriculum = replay(50)

    def visit(carry, key):
        buffer, drawn = carry
        over_key, score_key, sample_key = jax.random.split(key, 3)
        over = jax.random.bernoulli(over_key, 0.3, (BATCH,))
        score = jax.random.normal(score_key, (BATCH,))
        visits = Visits(drawn.slot, drawn.level, score, score, over)
        buffer = curriculum.report(buffer, Replay(), visits)
        buffer, going = curriculum.sample(sample_key, buffer, Replay(), over, None)
        drawn = jax.vmap(tree_where)(over, going.chosen, drawn)
        in_use = (
            jnp.zeros(50, bool).at[jnp.where(drawn.slot < 0, 50, drawn.slot)].set(True, mode="drop")
        )
        return (buffer, drawn), (buffer.in_use == in_use).all()

    start = draw(curriculum, empty(curriculum), Replay())
    (buffer, _), agrees = jax.jit(lambda keys: jax.lax.scan(visit, start, keys))(
        jax.random.split(jax.random.key(1), 500)
    )
    assert agrees.all()
    assert buffer.filled.all() and len(np.unique(buffer.levels["x"])) == 50
    assert (buffers.log_chances(buffer, 0.3, 0.3)[buffer.in_use] == -jnp.inf).all()
