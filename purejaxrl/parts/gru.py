"""A gated recurrent unit over a whole trajectory, with a fast gradient.

Backpropagation through a `scan` computes the gradient of the weights by one small matrix product
per step. Here the backward pass stores the gradients of the gates, and computes one large product
after the last step. Wide inputs are projected by one large product before the first step. Inputs
much narrower than the state are projected inside the step: that is cheaper than to store the
projections.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import lecun_normal, zeros

from purejaxrl.parts.networks import orthogonal

NARROW = 1 / 4
"""Inputs of less than this share of the state's width are projected inside the step."""


class GRUWeights(NamedTuple):
    """Weights of a unit of width H with F inputs; gates come in the order r, z, n."""

    inputs: jax.Array  # [F, 3 * H]
    inputs_bias: jax.Array  # [3 * H]
    state: jax.Array  # [H, 3 * H]
    state_bias: jax.Array  # [H], of gate n


def declare_weights(module: nn.Module, num_inputs: int, width: int) -> GRUWeights:
    """Declare the weights as parameters of the module in whose `@nn.compact` method this is called.

    Args:
        module: the module.
        num_inputs: F.
        width: H.
    """
    return GRUWeights(
        inputs=module.param("inputs", lecun_normal(), (num_inputs, 3 * width)),
        inputs_bias=module.param("inputs_bias", zeros, (3 * width,)),
        state=module.param("state", _orthogonal_gates, (width, 3 * width)),
        state_bias=module.param("state_bias", zeros, (width,)),
    )


def _orthogonal_gates(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Draw the weights of the state, `[H, 3 * H]`: an orthogonal matrix for each gate."""
    width = shape[0]
    init = orthogonal(1.0)
    return jnp.concatenate([init(k, (width, width)) for k in jax.random.split(key, 3)], axis=1)


def gru(
    weights: GRUWeights, inputs: jax.Array, reset: jax.Array, start: jax.Array | None = None
) -> jax.Array:
    r"""States of a gated recurrent unit (Cho et al. 2014, in the form of cuDNN and flax).

    $r, z = \sigma(U_{r,z} x + W_{r,z} h + c_{r,z})$, $n = \tanh(U_n x + c_n + r (W_n h + b))$
    and $h' = (1 - z) n + z h$.

    Args:
        weights: U, c, W and b.
        inputs: x, float `[T, batch, F]`.
        reset: bool `[T, batch]`, whether the state is zeroed before the step.
        start: the state before the first step, `[batch, H]`; by default zeros.

    Returns:
        The state after each step, `[T, batch, H]`.
    """
    if start is None:
        start = jnp.zeros((inputs.shape[1], weights.state.shape[0]), inputs.dtype)
    return _gru(weights, inputs, reset, start)


@jax.custom_vjp
def _gru(weights: GRUWeights, inputs: jax.Array, reset: jax.Array, start: jax.Array) -> jax.Array:
    return _forward(weights, inputs, reset, start)[0]


def _forward(weights: GRUWeights, inputs: jax.Array, reset: jax.Array, start: jax.Array):
    def project(x):
        return x @ weights.inputs + weights.inputs_bias

    is_narrow = inputs.shape[-1] < NARROW * start.shape[-1]

    def step(h, at_step):
        x, reset = at_step
        h = jnp.where(reset[:, None], 0.0, h)
        x_r, x_z, x_n = jnp.split(project(x) if is_narrow else x, 3, axis=1)
        h_r, h_z, h_n = jnp.split(h @ weights.state, 3, axis=1)
        r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
        h_n += weights.state_bias
        n = jnp.tanh(x_n + r * h_n)
        after = (1 - z) * n + z * h
        return after, (after, r, z, n, h_n)

    read = inputs if is_narrow else project(inputs)
    _, (states, *gates) = jax.lax.scan(step, start, (read, reset))
    return states, (weights, inputs, reset, start, states, *gates)


def _backward(residuals, d_states):
    weights, inputs, reset, start, states, r, z, n, h_n = residuals
    before = jnp.concatenate([start[None], states[:-1]])
    before = jnp.where(reset[..., None], 0.0, before)

    def step(d_after, inputs):
        d_state, before, reset, r, z, n, h_n = inputs
        d_after += d_state
        d_n = d_after * (1 - z) * (1 - n * n)
        d_z = d_after * (before - n) * z * (1 - z)
        d_r = d_n * h_n * r * (1 - r)
        d_state = jnp.concatenate([d_r, d_z, d_n * r], axis=1)
        d_before = jnp.where(reset[:, None], 0.0, d_after * z + d_state @ weights.state.T)
        return d_before, (d_state, d_n)

    d_start, (d_state, d_n) = jax.lax.scan(
        step,
        jnp.zeros_like(start),
        (d_states, before, reset, r, z, n, h_n),
        reverse=True,
    )
    over_time = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    width = n.shape[-1]
    d_inputs = jnp.concatenate([d_state[..., : 2 * width], d_n], axis=-1)
    d_weights = GRUWeights(
        inputs=over_time(inputs).T @ over_time(d_inputs),
        inputs_bias=d_inputs.sum((0, 1)),
        state=over_time(before).T @ over_time(d_state),
        state_bias=d_state[..., 2 * width :].sum((0, 1)),
    )
    return d_weights, d_inputs @ weights.inputs.T, None, d_start


_gru.defvjp(_forward, _backward)
