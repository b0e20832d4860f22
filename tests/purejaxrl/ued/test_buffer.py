"""The level buffer against one in plain Python, and its chances against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from purejaxrl.ued import buffer as buffers
from purejaxrl.ued.buffer import NOT_KEPT, Buffer, Visits

CAPACITY, BATCH = 5, 4


def level(name):
    """Levels that differ in at least one leaf."""
    name = np.asarray(name)
    walls = (name[..., None] // 2 ** np.arange(3)) % 2 == 1
    return {"walls": jnp.asarray(walls), "worth": jnp.asarray(name // 8, jnp.float32)}


def name_of(levels, i):
    return int((levels["walls"][i] * 2 ** np.arange(3)).sum() + 8 * levels["worth"][i])


report, mark_in_use, log_chances = map(
    jax.jit, (buffers.report, buffers.mark_in_use, buffers.log_chances)
)
draw = jax.jit(buffers.draw, static_argnums=2)


def chances_of(*arguments):
    return jnp.exp(buffers.log_chances(*arguments))


class Model:
    """What the buffer should do, as lists."""

    def __init__(self):
        self.slots = [None] * CAPACITY  # or [name, score, best, last visit, in use]
        self.clock = 0

    def take(self, slots):
        self.clock += 1
        for slot in slots:
            if slot != NOT_KEPT:
                self.slots[slot][3:] = [self.clock, True]

    def report(self, visits):
        for slot, name, score, best in visits:
            sound = np.isfinite(score)
            known = [i for i, kept in enumerate(self.slots) if kept and kept[0] == name]
            if slot != NOT_KEPT:
                self.slots[slot][4] = False
                place = slot
            elif known:
                place = known[0]
            else:
                place = None
            if not sound:
                continue
            if place is not None:
                kept = self.slots[place]
                kept[1:4] = [score, max(best, kept[2]), self.clock]
                continue
            rank = lambda i: -np.inf if self.slots[i] is None else self.slots[i][1]  # noqa: E731
            free = [i for i in range(CAPACITY) if self.slots[i] is None or not self.slots[i][4]]
            place = min(free, key=rank, default=None)
            if place is not None and score > rank(place):
                self.slots[place] = [name, score, best, self.clock, False]

    def check(self, buffer: Buffer):
        buffer = jax.device_get(buffer)
        for i, kept in enumerate(self.slots):
            assert bool(buffer.filled[i]) == (kept is not None)
            if kept:
                seen = [
                    name_of(buffer.levels, i),
                    float(buffer.score[i]),
                    float(buffer.best_return[i]),
                    int(buffer.last_visit[i]),
                    bool(buffer.in_use[i]),
                ]
                assert seen == kept
        names = [kept[0] for kept in self.slots if kept]
        assert len(set(names)) == len(names)


scores = st.one_of(st.integers(-3, 3).map(float), st.just(float("nan")), st.just(float("-inf")))
visit = st.tuples(st.integers(0, 31), scores, st.integers(-3, 3).map(float), st.booleans())
rounds = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.lists(visit, min_size=BATCH, max_size=BATCH)),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(rounds)
def test_it_does_what_a_plain_python_buffer_does(rounds):
    """Students visit drawn levels or new ones, and report when a visit is finished."""
    buffer, model = buffers.empty(jax.tree.map(lambda x: x[0], level([0])), CAPACITY), Model()
    slot, names = np.full(BATCH, NOT_KEPT), np.arange(BATCH)
    for seed, visits in rounds:
        over = np.array([v[3] for v in visits])
        score, best = (np.array([v[i] for v in visits], np.float32) for i in (1, 2))
        buffer = report(buffer, Visits(jnp.int32(slot), level(names), score, best, over))
        model.report(
            [
                (slot[i], int(names[i]), float(score[i]), float(best[i]))
                for i in np.flatnonzero(over)
            ]
        )
        model.check(buffer)

        chances = log_chances(buffer, 0.5, 0.3)
        drawn = np.array(draw(jax.random.key(seed), chances, BATCH))
        kept = drawn[drawn != NOT_KEPT]
        assert len(set(kept)) == len(kept)
        for i in kept:
            assert model.slots[i] and not model.slots[i][4]
        idle = sum(bool(kept) and not kept[4] for kept in model.slots)
        assert len(kept) == min(idle, BATCH)
        # every second student whose visit is finished moves to a drawn level
        goes_to = np.where(over & (np.arange(BATCH) % 2 == 0), drawn, NOT_KEPT)
        buffer = mark_in_use(buffer, jnp.int32(goes_to))
        model.take(goes_to)
        slot = np.where(over, goes_to, slot)
        new = np.array([v[0] for v in visits])
        known = [model.slots[i][0] if i != NOT_KEPT else 0 for i in slot]
        names = np.where(slot != NOT_KEPT, known, np.where(over, new, names))
        model.check(buffer)


def filled(score, last_visit=None, in_use=None, clock=10) -> Buffer:
    count = len(score)
    empty = buffers.empty(jax.tree.map(lambda x: x[0], level([0])), count)
    return empty._replace(
        levels=level(np.arange(count)),
        fingerprint=jax.vmap(buffers.fingerprint)(level(np.arange(count))),
        score=jnp.float32(score),
        last_visit=jnp.int32(last_visit if last_visit is not None else [clock] * count),
        filled=jnp.ones(count, bool),
        in_use=jnp.asarray(in_use if in_use is not None else [False] * count),
        clock=jnp.int32(clock),
    )


def test_equal_levels_have_equal_hashes():
    one, other = ({"worth": jnp.array([zero, 1.0])} for zero in (0.0, -0.0))
    assert buffers.fingerprint(one) == jax.jit(buffers.fingerprint)(other)
    assert buffers.fingerprint(one) != buffers.fingerprint({"worth": jnp.array([0.5, 1.0])})


def test_chances_by_rank_are_those_of_the_paper():
    buffer = filled([0.1, 5.0, -2.0, 0.3], last_visit=[10, 4, 8, 10])
    by_rank = np.array([3, 1, 4, 2]) ** (-1 / 0.3)
    waited = np.array([0, 6, 2, 0])
    expected = 0.8 * by_rank / by_rank.sum() + 0.2 * waited / waited.sum()
    np.testing.assert_allclose(chances_of(buffer, 0.3, 0.2), expected, rtol=1e-5)


def test_chances_in_proportion_are_powers_of_the_scores():
    buffer = filled([0.5, 2.0, -2.0, 0.25])
    weight = np.array([0.5, 2.0, 0.0, 0.25]) ** (1 / 0.5)
    found = chances_of(buffer, 0.5, 0.0, buffers.in_proportion)
    np.testing.assert_allclose(found, weight / weight.sum(), rtol=1e-5)


def test_levels_in_use_and_empty_slots_have_no_chance():
    buffer = filled([3.0, 2.0, 1.0, 0.0], in_use=[True, False, False, False])
    buffer = buffer._replace(filled=buffer.filled.at[3].set(False))
    for priority in (buffers.by_rank, buffers.in_proportion):
        chances = chances_of(buffer, 0.3, 0.3, priority)
        assert chances[0] == chances[3] == 0
        np.testing.assert_allclose(chances.sum(), 1.0, rtol=1e-6)
    ranks = np.array([1, 2]) ** (-1 / 0.3)  # those in use do not count
    np.testing.assert_allclose(chances_of(buffer, 0.3, 0.0)[1:3], ranks / ranks.sum(), rtol=1e-5)


def test_at_low_temperatures_the_best_levels_are_drawn_in_order():
    """Most of their chances are 0 in float32: the chance of rank 32 is 32⁻⁵⁰."""
    buffer = filled(-np.arange(64.0))
    drawn = draw(jax.random.key(0), log_chances(buffer, 0.02, 0.0), 32)
    assert NOT_KEPT not in drawn and drawn[:4].tolist() == [0, 1, 2, 3]


def test_without_any_priority_chances_are_uniform():
    buffer = filled([-1.0, -2.0, 0.0])
    chances = chances_of(buffer, 0.3, 0.5, buffers.in_proportion)
    np.testing.assert_allclose(chances, 1 / 3, rtol=1e-6)


def test_levels_are_drawn_as_often_as_their_chances_say():
    """The first draw, and the second given the first: never a deterministic top-k."""
    chances = jnp.array([0.5, 0.3, 0.15, 0.05, 0.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    first, second = np.array(jax.vmap(lambda key: draw(key, jnp.log(chances), 2))(keys)).T
    counts = np.bincount(first, minlength=5)
    assert counts[4] == 0
    expected = np.array([0.5, 0.3, 0.15, 0.05])
    assert stats.chisquare(counts[:4], 20_000 * expected).pvalue > 1e-3
    after = np.bincount(second[first == 0], minlength=5)[1:4]
    rest = expected[1:] / expected[1:].sum()
    assert stats.chisquare(after, after.sum() * rest).pvalue > 1e-3


def test_too_few_levels_leave_the_rest_undrawn():
    drawn = draw(jax.random.key(0), jnp.log(jnp.array([0.0, 0.5, 0.5])), 3)
    assert sorted(drawn.tolist()) == [NOT_KEPT, 1, 2]


def test_equal_levels_have_equal_fingerprints_and_others_hardly_ever():
    names = np.arange(4096)
    found = np.array(jax.vmap(buffers.fingerprint)(level(names)))
    assert len(np.unique(found)) == len(names)
    again = jax.vmap(buffers.fingerprint)(level(names))
    np.testing.assert_array_equal(found, again)


def test_a_fingerprint_alone_does_not_make_levels_equal():
    buffer = filled([1.0, 2.0])
    other = level(np.array([7]))
    buffer = buffer._replace(fingerprint=jnp.full(2, jax.vmap(buffers.fingerprint)(other)[0]))
    visits = Visits(
        jnp.int32([NOT_KEPT]), other, jnp.float32([1.5]), jnp.zeros(1), np.array([True])
    )
    after = report(buffer, visits)
    assert name_of(after.levels, 0) == 7 and after.score.tolist() == [1.5, 2.0]


def test_vmapped_equals_looped():
    buffer = filled([1.0, 2.0, 3.0], in_use=[True, False, True])
    visits = [
        Visits(
            jnp.int32([slot]), level(np.array([9])), jnp.float32([s]), jnp.zeros(1), np.array([o])
        )
        for slot, s, o in ((0, 5.0, True), (NOT_KEPT, 4.0, True), (2, 1.0, False))
    ]
    stack = lambda *x: jnp.stack([jnp.asarray(y) for y in x])  # noqa: E731
    together = jax.jit(jax.vmap(buffers.report, in_axes=(None, 0)))(
        buffer, jax.tree.map(stack, *visits)
    )
    for i, visit in enumerate(visits):
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(a[i], b),  # noqa: B023
            together,
            report(buffer, visit),
        )


def test_ranks_are_those_of_numpy_whatever_the_sign_and_size():
    score = np.random.default_rng(0).normal(size=500).astype(np.float32) * 10.0 ** np.arange(
        -5, 5
    ).repeat(50)
    score = np.append(score, [0.0, 1e-38, -1e-38, 3.0, 3.0]).astype(np.float32)
    eligible = np.random.default_rng(1).random(score.size) < 0.8
    found = buffers.by_rank(jnp.asarray(score), jnp.asarray(eligible), 0.5)[eligible]
    first = stats.rankdata(-score[eligible], method="min").astype(int)
    last = stats.rankdata(-score[eligible], method="max").astype(int)
    weight = np.arange(1, score.size + 1) ** (-1 / 0.5)
    shared = [weight[a - 1 : b].mean() for a, b in zip(first, last, strict=True)]
    assert (first < last).any()
    np.testing.assert_allclose(found, np.log(shared), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0, 10.0])
def test_many_equal_scores_have_no_more_weight_together_than_different_ones(temperature):
    """Else the few levels that can be learned drown among those of score 0."""
    temperature, every = jnp.float32(temperature), jnp.ones(4000, bool)
    apart = -jnp.arange(4000.0)
    tied = jnp.maximum(apart, -20.0)  # 20 levels, and 3,980 of one score
    among = jax.nn.softmax(buffers.by_rank(apart, every, temperature))
    found = jax.nn.softmax(buffers.by_rank(tied, every, temperature))
    np.testing.assert_allclose(found[:20], among[:20], rtol=2e-4)
    np.testing.assert_allclose(found[20:], among[20:].sum() / 3980, rtol=2e-4, atol=1e-30)
