"""The optimizers against optax's, and their derivative at an exactly zero gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl.parts import optimizers

GRADS = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}


def descend(transformation, grads=GRADS):
    updates, _ = transformation.update(grads, transformation.init(grads), grads)
    return updates


def equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0.5, 5.0, 7.0, jnp.inf])
def test_clipping_equals_optaxs(max_norm):
    ours = descend(optimizers.clip_by_global_norm(max_norm))
    equal(ours, descend(optax.clip_by_global_norm(max_norm)))


def test_adam_equals_optaxs():
    """Over three steps: the first is the same whatever the decays."""
    both = optimizers.adam(0.1), optax.adam(0.1, eps=1e-5)
    states = [adam.init(GRADS) for adam in both]
    for scale in (1.0, -0.5, 2.0):
        grads = jax.tree.map(lambda g: scale * g, GRADS)  # noqa: B023
        found = [adam.update(grads, state) for adam, state in zip(both, states, strict=True)]
        updates, states = zip(*found, strict=True)
        equal(*updates)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0])
def test_the_derivative_is_finite_where_the_gradient_is_zero(scale):
    chain = optax.chain(optimizers.clip_by_global_norm(0.5), optimizers.adam(0.1))

    def after_two_steps(scale):
        grads = jax.tree.map(lambda g: scale * g, GRADS)
        state = chain.init(grads)
        first, state = chain.update(grads, state)
        second, _ = chain.update(grads, state)
        return sum(x.sum() for x in jax.tree.leaves((first, second)))

    assert jnp.isfinite(jax.grad(after_two_steps)(jnp.float32(scale)))


def test_the_derivative_of_optaxs_clipping_is_not_finite_there():
    chain = optax.clip_by_global_norm(0.5)
    grad = jax.grad(lambda s: descend(chain, jax.tree.map(lambda g: s * g, GRADS))["a"].sum())
    assert not jnp.isfinite(grad(0.0))
