"""Networks with a memory: the interface that algorithms need, and a GRU that has it.

A memory is a pytree of arrays `[num_envs, ...]`. It is carried from step to step and from update to
update, in `Interaction.memory`.
"""

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.parts.gru import declare_weights, gru


class Recurrent(Protocol):
    """A flax module that reads observations over time, or a torso's features of them."""

    def __call__(self, memory: Any, inputs: jax.Array, first: jax.Array) -> tuple[Any, jax.Array]:
        """Run over time.

        Args:
            memory: leaves `[num_envs, ...]`, before the first step.
            inputs: `[T, num_envs, ...]`.
            first: bool `[T, num_envs]`: an episode begins at this step, so nothing that came
                before it may be remembered.

        Returns:
            The memory after the last step, of the same shapes and dtypes, and features, float
            `[T, num_envs, width]`.
        """

    def initial_memory(self, num_envs: int) -> Any:
        """Return an empty memory, leaves `[num_envs, ...]`."""


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014), a `Recurrent` module."""

    size: int

    @nn.compact
    def __call__(  # noqa: D102
        self, memory: jax.Array, inputs: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        weights = declare_weights(self, inputs.shape[-1], self.size)
        states = gru(weights, inputs, first, memory)
        return states[-1], states

    def initial_memory(self, num_envs: int) -> jax.Array:
        """Return zeros, `[num_envs, size]`."""
        return jnp.zeros((num_envs, self.size))
