"""Policies that are fitted to a dataset: their densities and samples against scipy's."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from scipy import stats

from purejaxrl.parts import networks, policies

OBS = jnp.zeros((4, 3))
ACTION = np.array([[0.0, 0.0], [0.5, -0.5], [1.0, -1.0], [-0.9, 0.2]])
MEAN = np.tanh([0.4, -1.0])


class Arm:
    """Two dimensions of action, as a policy needs to know them."""

    default_params = None

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (3,))

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,))


def gaussian(std):
    """A Gaussian of mean `MEAN` everywhere."""
    pi = policies.Gaussian(Arm(), networks.MLP((4,)))
    params = jax.tree.map(jnp.zeros_like, pi.init(jax.random.key(0), OBS))
    params["params"]["network"]["layers_1"]["bias"] = jnp.array([0.4, -1.0])
    params["params"]["log_std"] = jnp.log(jnp.array(std))
    return pi, params


def test_the_density_of_a_gaussian_is_scipys():
    pi, params = gaussian([0.5, 2.0])
    expected = stats.norm(MEAN, [0.5, 2.0]).logpdf(ACTION).sum(-1)
    np.testing.assert_allclose(pi.log_prob(params, OBS, ACTION), expected, rtol=1e-5)
    np.testing.assert_allclose(pi.mode(params, OBS), np.tile(MEAN, (4, 1)), rtol=1e-5)


def test_the_deviation_of_a_gaussian_is_bounded():
    pi, params = gaussian([0.5, 1e9])
    expected = stats.norm(MEAN, [0.5, np.exp(2)]).logpdf(ACTION).sum(-1)
    np.testing.assert_allclose(pi.log_prob(params, OBS, ACTION), expected, rtol=1e-5)


def test_samples_of_a_gaussian_are_clipped():
    pi, params = gaussian([0.1, 1.0])
    sample = np.asarray(pi.sample(params, jnp.zeros((9999, 3)), jax.random.key(0)))
    np.testing.assert_allclose([sample[:, 0].mean(), sample[:, 0].std()], [MEAN[0], 0.1], atol=5e-3)
    below = stats.norm(MEAN[1], 1.0).cdf(-1)
    assert sample.min() == -1 and sample.max() == 1
    np.testing.assert_allclose((sample[:, 1] == -1).mean(), below, atol=0.02)


def test_the_density_of_a_deterministic_policy_has_unit_variance():
    pi = policies.Deterministic(Arm(), networks.MLP((4,)))
    params = jax.tree.map(jnp.zeros_like, pi.init(jax.random.key(0), OBS))
    expected = stats.norm(0.0, 1.0).logpdf(ACTION).sum(-1)
    np.testing.assert_allclose(pi.log_prob(params, OBS, ACTION), expected, rtol=1e-5)
