"""A branch that is computed only where it is needed, under vmap too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts.branches import compute_if


def by_cond(needed, compute, operand, otherwise):
    return jax.lax.cond(needed, compute, lambda _: otherwise, operand)


@pytest.mark.parametrize(
    ("branch", "needed", "computed"),
    [
        (compute_if, [False, False, False], False),
        (compute_if, [False, True, False], True),
        (by_cond, [False, False, False], True),  # why this file exists
    ],
)
def test_members_compute_what_one_of_them_needs(branch, needed, computed):
    rounds = []

    def one(needed, x):
        def compute(x):
            jax.debug.callback(lambda x: rounds.append(float(x)), x)
            return jnp.sqrt(x), x.astype(jnp.int32)

        return branch(needed, compute, x, (x, jnp.int32(-1)))

    x = jnp.array([4.0, 9.0, 16.0])
    root, whole = jax.jit(jax.vmap(one))(jnp.array(needed), x)
    jax.effects_barrier()
    np.testing.assert_array_equal(root, np.where(needed, [2, 3, 4], x))
    np.testing.assert_array_equal(whole, np.where(needed, [4, 9, 16], -1))
    assert bool(rounds) == computed
