"""Optimizers that can be differentiated through, even where a gradient is exactly zero.

The derivative of a square root is infinite at zero. So optax's Adam, which takes the root of the
second moment, and its clipping by norm turn such a meta-gradient into NaN.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Kind = Literal["adam", "sgd"]


def optimizer(kind: Kind, learning_rate: Any) -> optax.GradientTransformation:
    """Make the optimizer that a config names; to rebuild it inside an update costs nothing.

    Args:
        kind: its name.
        learning_rate: step size; may be traced.
    """
    return {"adam": adam, "sgd": optax.sgd}[kind](learning_rate)


def adam(learning_rate: Any) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with ε = 1e-5, and a negligible 1e-16 under the root."""
    return optax.adam(learning_rate, eps=1e-5, eps_root=1e-16)


def init_each(params: Any) -> Any:
    """Adam's state for each field of a NamedTuple; it does not depend on the step size."""
    return type(params)(*map(adam(0.0).init, params))


def descend(learning_rate: Any, grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
    """Take one step of Adam; returns the parameters and the optimizer's state."""
    updates, opt_state = adam(learning_rate).update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def clip_by_global_norm(max_norm: Any) -> optax.GradientTransformation:
    """Scale gradients down to a global norm of at most `max_norm`."""

    def update(grads, state, params=None):
        squares = sum(jnp.sum(g * g) for g in jax.tree.leaves(grads))
        norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
        scale = jnp.where(norm > max_norm, max_norm / jnp.where(norm > max_norm, norm, 1.0), 1.0)
        return jax.tree.map(lambda g: g * scale, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
