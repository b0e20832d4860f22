import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from purejaxrl.parts.minibatches import minibatch_epochs, shuffled

SIZE, EPOCHS = 12, 5


epochs = jax.jit(minibatch_epochs, static_argnums=(1, 4, 5))


def keep(carry, minibatch):
    return carry, minibatch


def visits(key, num_minibatches=3, batch=None):
    """Every minibatch in the order of the visits: `[EPOCHS, num_minibatches, size, ...]`."""
    batch = jnp.arange(SIZE) if batch is None else batch
    seen = epochs(key, keep, (), batch, EPOCHS, num_minibatches)[1]
    return jax.tree.map(lambda x: x.reshape(EPOCHS, num_minibatches, *x.shape[1:]), seen)


@pytest.mark.parametrize("num_minibatches", [1, 3, SIZE])
def test_each_epoch_visits_each_element_once(num_minibatches):
    seen = visits(jax.random.key(0), num_minibatches)
    assert seen.shape == (EPOCHS, num_minibatches, SIZE // num_minibatches)
    for epoch in np.asarray(seen).reshape(EPOCHS, SIZE):
        assert sorted(epoch) == list(range(SIZE))


def test_orders_differ_between_epochs_and_from_the_batch():
    orders = np.asarray(visits(jax.random.key(0))).reshape(EPOCHS, SIZE)
    assert len({tuple(order) for order in orders} | {tuple(range(SIZE))}) == EPOCHS + 1


def test_orders_are_a_function_of_the_key():
    assert np.array_equal(visits(jax.random.key(1)), visits(jax.random.key(1)))
    assert not np.array_equal(visits(jax.random.key(1)), visits(jax.random.key(2)))


def test_leaves_of_a_batch_stay_together():
    batch = {"x": jnp.arange(SIZE), "y": jnp.stack([jnp.arange(SIZE)] * 2, axis=1) * 10}
    seen = visits(jax.random.key(0), batch=batch)
    assert seen["y"].shape == (EPOCHS, 3, SIZE // 3, 2)
    assert np.array_equal(seen["y"], np.stack([seen["x"] * 10] * 2, axis=-1))


def test_the_carry_passes_through_every_step_in_order():
    def step(carry, x):
        return carry * 31 + x.sum(), carry

    carry, before = epochs(
        jax.random.key(0), step, jnp.uint32(1), jnp.arange(SIZE, dtype=jnp.uint32), EPOCHS, 3
    )
    expected = 1
    for minibatch, seen in zip(
        np.asarray(visits(jax.random.key(0))).reshape(-1, SIZE // 3), before.ravel(), strict=True
    ):
        assert int(seen) == expected
        expected = (expected * 31 + int(minibatch.sum())) % 2**32
    assert int(carry) == expected


def test_every_item_is_equally_likely_at_every_place():
    size, times = 6, 12_000
    orders = np.asarray(shuffled(jax.random.key(0), size, times))
    assert (np.sort(orders, axis=1) == np.arange(size)).all()
    counts = np.stack([np.bincount(orders[:, place], minlength=size) for place in range(size)])
    chi2 = ((counts - times / size) ** 2 / (times / size)).sum()
    assert scipy.stats.chi2.sf(chi2, (size - 1) ** 2) > 1e-4


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 2**17 + 1])
def test_any_size_is_shuffled_whole(size):
    assert np.array_equal(np.sort(shuffled(jax.random.key(1), size, 1)[0]), np.arange(size))


def test_a_size_without_room_for_random_bits_is_refused():
    with pytest.raises(ValueError, match="size: 16777217 is not valid"):
        shuffled(jax.random.key(0), 2**24 + 1, 1)


@pytest.mark.parametrize("num_minibatches", [0, 5])
def test_a_number_of_minibatches_that_does_not_divide_the_batch_is_refused(num_minibatches):
    with pytest.raises(ValueError, match=rf"num_minibatches: {num_minibatches} is not valid"):
        visits(jax.random.key(0), num_minibatches)
