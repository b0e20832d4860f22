"""The search for a policy to deploy: what it finds, and the two flaws that are mended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.offline.protocol import Search, curve, deployed_return

FEW = Search(num_policies=4, num_episodes=30, num_trials=50)


def test_without_noise_the_best_is_known_once_all_were_tried():
    returns = jnp.repeat(jnp.arange(4.0)[:, None], 3, axis=1)
    found = np.asarray(deployed_return(jax.random.key(0), returns, FEW))
    assert found.shape == (50, 30)
    np.testing.assert_array_equal(found[:, 3:], 3.0)
    assert set(found[:, 0]) == {0.0, 1.0, 2.0, 3.0}  # ties are broken at random
    assert (np.diff(found, axis=1) >= 0).all()


def test_an_untried_policy_is_not_deployed_where_returns_are_negative():
    """After one episode the tried policy is deployed, whichever it is: the mean is that of all."""
    returns = jnp.repeat(-10.0 - jnp.arange(4.0)[:, None], 3, axis=1)
    many = FEW._replace(num_trials=2000, num_episodes=1)
    found = np.asarray(deployed_return(jax.random.key(0), returns, many))
    assert found.mean() == pytest.approx(-11.5, abs=0.1)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_scale_of_returns_does_not_matter(scale):
    returns = jax.random.normal(jax.random.key(1), (8, 64)) + jnp.arange(8.0)[:, None] / 4
    one = deployed_return(jax.random.key(0), returns, FEW)
    other = deployed_return(jax.random.key(0), scale * returns + 5.0, FEW)
    np.testing.assert_allclose(other, scale * one + 5.0, rtol=1e-4, atol=1e-3)


def test_more_episodes_find_better_policies():
    returns = jax.random.normal(jax.random.key(1), (40, 256)) + jnp.arange(40.0)[:, None] / 20
    found = curve(deployed_return(jax.random.key(0), returns, Search(num_trials=200)))
    assert found[-1, 0] > found[19, 0] > found[0, 0]
    assert ((found[:, 1] <= found[:, 0]) & (found[:, 0] <= found[:, 2])).all()


@pytest.mark.parametrize("shape", [(3, 8), (30,)])
def test_too_few_policies_are_refused(shape):
    with pytest.raises(ValueError, match=r"returns: an array of shape .* at least 4 policies"):
        deployed_return(jax.random.key(0), jnp.zeros(shape), FEW)
