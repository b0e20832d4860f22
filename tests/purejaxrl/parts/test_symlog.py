"""The symmetric logarithm beside NumPy, and its derivative at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts.symlog import symexp, symlog

X = np.array([-1e4, -3.0, -1e-3, 0.0, 1e-3, 3.0, 1e4], np.float32)


def test_it_is_the_signed_logarithm_and_has_an_inverse():
    np.testing.assert_allclose(symlog(X), np.sign(X) * np.log1p(np.abs(X)), rtol=1e-6)
    np.testing.assert_allclose(symexp(symlog(X)), X, rtol=1e-5)


@pytest.mark.parametrize("function", [symlog, symexp])
def test_its_derivative_at_zero_is_one(function):
    """That of sign(x) log(1 + |x|) by parts is 0 there."""
    near = jax.vmap(jax.grad(function))(jnp.array([-1e-4, 0.0, 1e-4]))
    np.testing.assert_allclose(near, 1.0, rtol=1e-3)
