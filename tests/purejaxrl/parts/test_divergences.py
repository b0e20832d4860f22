"""KL divergences, against SciPy and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from purejaxrl.parts.divergences import k3, kl_divergence

LOG_P, LOG_Q = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (2, 3, 5)))
EXPECTED = stats.entropy(np.exp(LOG_P), np.exp(LOG_Q), axis=-1)


def test_a_divergence_is_that_of_scipy():
    np.testing.assert_allclose(kl_divergence(LOG_P, LOG_Q), EXPECTED, rtol=1e-5)


def test_the_mean_of_k3_is_the_divergence():
    mean = (jnp.exp(LOG_P) * k3(LOG_Q - LOG_P)).sum(-1)
    np.testing.assert_allclose(mean, EXPECTED, rtol=1e-5)


def test_k3_is_not_negative_and_is_finite_for_all_ratios():
    log_ratio = jnp.array([-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 100.0])
    value, slope = jax.vmap(jax.value_and_grad(k3))(log_ratio)
    assert (value >= 0).all() and value[3] == 0
    assert jnp.isfinite(value).all() and jnp.isfinite(slope).all()
