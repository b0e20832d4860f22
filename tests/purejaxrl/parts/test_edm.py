"""Diffusion by analytic denoisers: moments of what is sampled, plain and tilted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts import edm

HOW = edm.Sampling(num_steps=64)
PLAIN = HOW._replace(churn=0.0)
NUM = 4096


def gaussian(x, sigma):
    """D(x; σ) of standard normal data."""
    return x / (1 + sigma**2)


def mixture(x, sigma):
    """D(x; σ) of data that are ±1 with deviation 0.1, a quarter of them below zero."""
    variance = 0.1**2 + sigma**2
    log_weight = jnp.stack([jnp.log(0.25) - (x + 1) ** 2 / (2 * variance),
                            jnp.log(0.75) - (x - 1) ** 2 / (2 * variance)])  # fmt: skip
    chance = jax.nn.softmax(log_weight, axis=0)
    means = jnp.stack([-1 + 0.1**2 / variance * (x + 1), 1 + 0.1**2 / variance * (x - 1)])
    return (chance * means).sum(0)


def drawn(denoise, how=HOW):
    return np.asarray(edm.sample(jax.random.key(0), denoise, (NUM,), how))


def test_levels_fall_to_zero():
    levels = edm.noise_levels(HOW)
    assert levels.shape == (65,)
    np.testing.assert_allclose([levels[0], levels[-2], levels[-1]], [80, 0.002, 0], rtol=1e-4)
    assert (np.diff(levels) < 0).all()


@pytest.mark.parametrize("how", [PLAIN, HOW], ids=["plain", "churned"])
def test_a_gaussian_is_recovered(how):
    found = drawn(gaussian, how)
    assert found.mean() == pytest.approx(0, abs=4 / NUM**0.5)
    assert found.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("how", [PLAIN, HOW], ids=["plain", "churned"])
def test_a_mixture_is_recovered(how):
    found = drawn(mixture, how)
    assert (found < 0).mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / NUM) ** 0.5)
    assert np.abs(found).mean() == pytest.approx(1, abs=0.02)
    assert found[found > 0].std() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("power", "std"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.2), (4.0, 0.5)])
def test_a_tilted_gaussian_has_the_mean_and_the_variance_of_the_closed_form(power, std):
    """N(0, 1) N(2, std²)^λ has the precision 1 + λ / std² and the mean 2 λ / std² over it."""
    log_weight = lambda y: -0.5 * ((y - 2.0) / std) ** 2  # noqa: E731

    def guided(x, sigma):
        return edm.tilt(gaussian(x, sigma), edm.spread(sigma), log_weight, power)

    found, precision = drawn(guided), 1 + power / std**2
    mean, deviation = 2 * (precision - 1) / precision, precision**-0.5
    assert found.mean() == pytest.approx(mean, abs=4 * deviation / NUM**0.5 + 0.01)
    assert found.std() == pytest.approx(deviation, rel=0.06)


def test_noise_that_is_added_again_is_where_the_step_begins():
    """Algorithm 2, line 7. One level, churned from 1 to σ: a step to 0 ends at D(x; σ) exactly.

    The published code of policy-guided diffusion begins at the point before the noise was added.
    """
    how = edm.Sampling(num_steps=1, least=1.0, greatest=1.0, churn=80.0)
    found = edm.sample(jax.random.key(0), lambda x, sigma: 0.3 * x, (8,), how)
    keys = jax.random.split(jax.random.key(0))
    start = jax.random.normal(keys[0], (8,))
    noise = 1.003 * jax.random.normal(jax.random.split(keys[1], 1)[0], (8,))
    np.testing.assert_allclose(found, 0.3 * (start + noise), rtol=1e-5)


def test_a_weight_without_slope_moves_nothing():
    """The published code divides by the gradient's norm, which is zero here."""
    moved = edm.tilt(jnp.ones(3), jnp.float32(0.5), lambda y: jnp.zeros(3), 1.0)
    np.testing.assert_array_equal(moved, 1.0)


def test_a_denoiser_keeps_clean_data_and_forgets_noise():
    silent = lambda x, level: jnp.zeros_like(x)  # noqa: E731
    x = jnp.array([[0.5, -2.0]])
    np.testing.assert_allclose(edm.denoised(silent, x, jnp.float32(1e-4)), x, rtol=1e-6)
    np.testing.assert_allclose(edm.denoised(silent, x, jnp.float32(80.0)), x / 6401, rtol=1e-5)


def test_the_loss_is_the_weighted_error_at_levels_whose_logarithms_are_normal():
    """Table 1 at unit variance: ln σ ~ N(-1.2, 1.2²), and λ(σ) = (σ² + 1) / σ²."""
    network = lambda x, level: 0.3 * x + jnp.sin(level)  # noqa: E731
    data = np.random.default_rng(0).normal(size=(64, 3))
    level_key, noise_key = jax.random.split(jax.random.key(2))
    sigma = np.exp(-1.2 + 1.2 * np.asarray(jax.random.normal(level_key, (64, 1))))
    x = data + sigma * np.asarray(jax.random.normal(noise_key, (64, 3)))
    root = np.sqrt(sigma**2 + 1)
    outputs = 0.3 * x / root + np.sin(np.log(sigma) / 4)
    error = x / root**2 + sigma / root * outputs - data
    expected = np.mean((sigma**2 + 1) / sigma**2 * error**2)
    found = edm.denoising_loss(jax.random.key(2), network, jnp.float32(data))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_loss_is_least_for_the_best_denoiser():
    data = jax.random.normal(jax.random.key(1), (NUM, 1))
    best = lambda x, level: jnp.zeros_like(x)  # noqa: E731  # of Gaussian data, D = x / (1 + σ²)
    loss = lambda shift: float(  # noqa: E731
        edm.denoising_loss(jax.random.key(2), lambda *a: best(*a) + shift, data)
    )
    assert loss(0.0) < min(loss(0.3), loss(-0.3))


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 0}, {"num_steps": 2.5}, {"least": 0.0}, {"least": 81.0}, {"power": 0.0},
        {"power": np.inf}, {"churn_scale": 0.0}, {"churn": -1.0}, {"churn": np.inf},
    ],
    ids=str,
)  # fmt: skip
def test_bad_ways_to_sample_are_named(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=rf"Sampling\.{name}: {value} is not valid"):
        edm.check_sampling(edm.Sampling(**change))
    edm.check_sampling(edm.Sampling())
