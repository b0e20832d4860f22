"""The worlds of drifts: what is drawn for every life, and what is kept for tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import lpo, ta_lpo
from algos.rules.drift_worlds import HELD_OUT, TRAINING, Lives, make_worlds

SIZES = dict(num_envs=2, num_steps=8, num_minibatches=2, hidden=(4,), drift_width=4)


def test_training_environments_are_not_held_out():
    assert not {*TRAINING} & {*HELD_OUT}
    assert {*TRAINING, *HELD_OUT} <= {*envs.names()}


def test_worlds_have_the_same_drift_but_differ_in_epochs_and_shares():
    config = ta_lpo.Config(**SIZES)
    names = ["CartPole-v1", "Catch-bsuite", "SpaceInvaders-MinAtar", "Acrobot-v1"]
    worlds = make_worlds(config, envs.make, names, lives=Lives(total_steps=(160, 320)))
    assert [world.name for world in worlds] == names
    assert [world.inner.config.num_epochs for world in worlds] == [4, 8, 2, 4]
    assert [world.share for world in worlds] == [2, 2, 1, 2]
    assert {world.inner.config.make_drift() for world in worlds} == {config.make_drift()}


def test_a_life_is_drawn_in_range():
    lives = Lives((160, 320), (1e-3, 1e-1), (10.0, 100.0))
    (world,) = make_worlds(lpo.Config(**SIZES), envs.make, ["Catch-bsuite"], lives=lives)
    keys = jax.random.split(jax.random.key(0), 1000)
    updates = jax.vmap(world.sample_lifetime)(keys)
    assert {*updates.tolist()} == {*range(10, 21)}
    drawn = jax.vmap(lambda key: world.vary(key, lpo.Hypers()))(keys)
    for value, (least, most) in (
        (drawn.learning_rate, lives.rates),
        (1 / (1 - drawn.gamma), lives.horizons),
    ):
        assert least * 0.999 <= value.min() < least * 1.1
        assert most / 1.1 < value.max() <= most * 1.001
        middle = np.sqrt(least * most)
        np.testing.assert_allclose((value < middle).mean(), 0.5, atol=0.05)
    assert abs(np.corrcoef(jnp.log(drawn.learning_rate), drawn.gamma)[0, 1]) < 0.1


def test_a_life_can_be_the_same_for_all():
    lives = Lives((160, 160), (1e-2, 1e-2), (100.0, 100.0))
    (world,) = make_worlds(lpo.Config(**SIZES), envs.make, ["Catch-bsuite"], [3], lives)
    assert world.share == 1
    assert world.sample_lifetime(jax.random.key(3)) == 10
    drawn = world.vary(jax.random.key(3), lpo.Hypers())
    np.testing.assert_allclose(drawn.learning_rate, 1e-2, rtol=1e-5)
    np.testing.assert_allclose(drawn.gamma, 0.99, rtol=1e-5)


@pytest.mark.parametrize("epochs", [[], [4, 0], [2.5]])
def test_epochs_that_are_not_counts_are_refused(epochs):
    with pytest.raises(ValueError, match="epochs: .* is not valid"):
        make_worlds(lpo.Config(**SIZES), envs.make, ["Catch-bsuite"], epochs)
