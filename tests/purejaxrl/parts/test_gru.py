"""The unit against flax's, and its gradient against that of a plain scan."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.parts.gru import GRUWeights, gru

T, BATCH, H = 7, 3, 9
NARROW, WIDE = 2, 4  # projected inside the step, and before the first one


def draw(seed=0, agents=(), width=WIDE):
    keys = jax.random.split(jax.random.key(seed), 7)
    weights = GRUWeights(
        inputs=jax.random.normal(keys[0], (width, 3 * H)),
        inputs_bias=jax.random.normal(keys[1], (3 * H,)),
        state=jax.random.normal(keys[2], (H, 3 * H)),
        state_bias=jax.random.normal(keys[3], (H,)),
    )
    inputs = jax.random.normal(keys[4], (*agents, T, BATCH, width))
    start = jax.random.normal(keys[6], (*agents, BATCH, H))
    return weights, inputs, jax.random.bernoulli(keys[5], 0.3, (*agents, T, BATCH)), start


def plain(weights, inputs, reset, start):
    """The equations, one step after the other."""

    def step(h, inputs):
        x, reset = inputs
        h = jnp.where(reset[:, None], 0.0, h)
        x_r, x_z, x_n = jnp.split(x @ weights.inputs + weights.inputs_bias, 3, axis=-1)
        h_r, h_z, h_n = jnp.split(h @ weights.state, 3, axis=-1)
        r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + r * (h_n + weights.state_bias))
        h = (1 - z) * n + z * h
        return h, h

    return jax.lax.scan(step, start, (inputs, reset))[1]


def test_without_resets_it_equals_flaxs():
    weights, inputs, reset, _ = draw()
    gates = lambda x: jnp.split(x, 3, axis=-1)  # noqa: E731
    params = {}
    for gate, kernel, bias in zip(
        "rzn", gates(weights.inputs), gates(weights.inputs_bias), strict=True
    ):
        params[f"i{gate}"] = {"kernel": kernel, "bias": bias}
    for gate, kernel in zip("rzn", gates(weights.state), strict=True):
        params[f"h{gate}"] = {"kernel": kernel}
    params["hn"]["bias"] = weights.state_bias
    step, h = jax.jit(nn.GRUCell(H).apply), jnp.zeros((BATCH, H))
    states = gru(weights, inputs, jnp.zeros_like(reset))
    for x, state in zip(inputs, states, strict=True):
        h, _ = step({"params": params}, h, x)
        np.testing.assert_allclose(state, h, rtol=1e-5, atol=1e-6)


def test_a_reset_forgets():
    weights, inputs, reset, start = draw()
    reset = reset.at[4].set(True)
    states = gru(weights, inputs, reset, start)
    np.testing.assert_allclose(states[4:], gru(weights, inputs[4:], reset[4:]), rtol=1e-6)


def test_it_continues_where_it_was_cut():
    weights, inputs, reset, start = draw()
    whole = gru(weights, inputs, reset, start)
    first = gru(weights, inputs[:3], reset[:3], start)
    second = gru(weights, inputs[3:], reset[3:], first[-1])
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("agents", [(), (2,)])
def test_the_gradient_is_that_of_the_plain_scan(agents, width):
    weights, inputs, reset, start = draw(1, agents, width)

    def loss(unit, *args):
        states = unit(*args)
        return (jnp.sin(3 * states) * jnp.arange(T)[:, None, None]).sum()

    def grads(unit):
        grad = jax.grad(lambda *args: loss(unit, *args), argnums=(0, 1, 3))
        for _ in agents:
            grad = jax.vmap(grad, in_axes=(None, 0, 0, 0))
        return jax.tree.leaves(jax.jit(grad)(weights, inputs, reset, start))

    for ours, theirs in zip(grads(gru), grads(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
