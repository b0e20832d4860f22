"""What all meta-learners share: the types of their arguments, and when one counts as diverged."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

InitTheta = Callable[[jax.Array], Any]
"""`(key) -> θ`, a pytree of floats."""
Insert = Callable[[Any, Any], Any]
"""`(θ, hypers) -> hypers`: inserts θ into hyperparameters, within their bounds."""
SampleLifetime = Callable[[jax.Array], jax.Array]
"""`(key) -> int32 []`, the length of a life in updates, at least 1."""

PATIENCE = 3
"""A meta-learner counts as diverged after this many steps in a row without a single sound agent
(one that has not diverged)."""


def check_lifetime(sample_lifetime: SampleLifetime) -> None:
    """Raise a ValueError unless a few sampled lives are whole numbers of updates, at least 1."""
    for key in jax.random.split(jax.random.key(0), 8):
        life = np.asarray(sample_lifetime(key))
        if life.shape or not np.issubdtype(life.dtype, np.integer) or life < 1:
            raise ValueError(
                f"sample_lifetime: a life of {life} updates is not valid; it must be one integer "
                ">= 1"
            )


def count_lost_steps(lost_steps: jax.Array, num_sound: jax.Array) -> jax.Array:
    """Count the steps in a row without one sound agent: int32 [].

    One such step may be bad luck, and new agents take the place of the unsound ones. If they fail
    too, again and again, θ is at fault, and there is no gradient that could correct it.
    """
    return jnp.where(num_sound > 0, 0, lost_steps + 1).astype(jnp.int32)


def nan_if_diverged(lost_steps: jax.Array) -> jax.Array:
    """Return NaN after `PATIENCE` lost steps, 0 before: a leaf for `Algorithm.vital`."""
    return jnp.where(lost_steps < PATIENCE, 0.0, jnp.nan)


def collect_nothing(state: Any, hypers: Any) -> tuple[Any, tuple]:
    """Collect nothing: the agents of a meta-learner collect their experience inside `learn`."""
    return state, ()
