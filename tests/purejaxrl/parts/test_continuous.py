"""The squashed Gaussian against numerical integration; which actions are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import envs
from purejaxrl.parts.continuous import LOG_STD, TanhGaussian, check_vectors, num_dims
from purejaxrl.parts.wrappers import for_network


@jax.jit
def density_before(mean, log_std, before):
    """The density of an action by what it was before it was squashed."""
    return jnp.exp(TanhGaussian(mean, log_std).log_prob(before))


def density(pi, action):
    return float(density_before(pi.mean, pi.log_std, np.float32([np.arctanh(action)])))


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.2, 0.4)])
def test_the_density_of_actions_integrates_to_the_gaussians_probability(mean, log_std):
    pi = TanhGaussian(jnp.array([mean]), jnp.array([log_std]))
    total, _ = integrate.quad(lambda a: density(pi, a), -0.99999, 0.99999, limit=200)
    np.testing.assert_allclose(total, 1.0, atol=1e-3)
    part, _ = integrate.quad(lambda a: density(pi, a), -0.3, 0.8)
    cdf = stats.norm(mean, np.exp(log_std)).cdf
    np.testing.assert_allclose(part, cdf(np.arctanh(0.8)) - cdf(np.arctanh(-0.3)), rtol=1e-4)


def test_dimensions_add_up_and_far_actions_have_finite_densities():
    pi = TanhGaussian(jnp.array([0.5, -0.5]), jnp.array([0.1, 0.2]))
    alone = [TanhGaussian(pi.mean[i : i + 1], pi.log_std[i : i + 1]) for i in (0, 1)]
    before = jnp.array([0.3, -2.0])
    total = sum(one.log_prob(before[i : i + 1]) for i, one in enumerate(alone))
    np.testing.assert_allclose(pi.log_prob(before), total, rtol=1e-6)
    far = jnp.array([40.0, -40.0])  # their tanh is exactly ±1 in float32
    log_prob, slope = jax.value_and_grad(pi.log_prob)(far)
    assert jnp.isfinite(log_prob) and jnp.isfinite(slope).all()


def test_the_entropy_of_samples_is_that_of_the_density():
    pi = TanhGaussian(jnp.zeros((50_000, 1)), jnp.full((50_000, 1), -0.5))
    estimated = -pi.log_prob(pi.sample(jax.random.key(0))).mean()
    one = TanhGaussian(jnp.zeros(1), jnp.full(1, -0.5))
    exact, _ = integrate.quad(
        lambda a: -density(one, a) * np.log(density(one, a)), -0.99999, 0.99999, limit=200
    )
    np.testing.assert_allclose(estimated, exact, atol=0.01)


def test_outputs_are_a_mean_and_a_bounded_deviation():
    pi = TanhGaussian.of(jnp.array([0.5, -1.0, 1e6, -1e6]))
    np.testing.assert_array_equal(pi.mean, [0.5, -1.0])
    np.testing.assert_allclose(pi.log_std, LOG_STD[::-1])
    np.testing.assert_allclose(pi.mode(), np.tanh([0.5, -1.0]), rtol=1e-6)


def test_only_vectors_in_the_unit_box_are_taken():
    pendulum, _ = envs.make("Pendulum-v1")
    assert num_dims(for_network(pendulum)) == 1
    with pytest.raises(ValueError, match=r"action_space: Box\(1,\) from -2.*ScaleAction"):
        num_dims(pendulum)
    with pytest.raises(ValueError, match=r"action_space: Discrete\(2\) is not valid"):
        num_dims(envs.make("CartPole-v1")[0])
    with pytest.raises(ValueError, match="observations of shape .* are not valid; .*Flatten"):
        check_vectors(envs.make("Breakout-MinAtar")[0])
