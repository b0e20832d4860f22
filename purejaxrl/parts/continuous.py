"""Continuous actions in [-1, 1], as off-policy algorithms take them.

The environment scales actions to its own bounds (`ScaleAction`), and nothing else does.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from purejaxrl.parts.networks import describe_space, obs_shape

LOG_STD = -5.0, 2.0
"""Least and greatest logarithm of a standard deviation, log σ. A tanh squashes log σ into this
range, as in CleanRL; the authors of SAC clip it to [-20, 2]."""


class TanhGaussian(NamedTuple):
    """The tanh of a diagonal Gaussian, over actions in (-1, 1); both `[..., num_dims]`.

    Actions are handled as they are before the tanh, because float32 cannot undo it near ±1.
    """

    mean: jax.Array
    log_std: jax.Array

    @classmethod
    def of(cls, outputs: jax.Array) -> "TanhGaussian":
        """Read the distribution from a network's outputs, `[..., 2 * num_dims]`."""
        mean, raw = jnp.split(outputs, 2, axis=-1)
        least, greatest = LOG_STD
        return cls(mean, least + 0.5 * (greatest - least) * (jnp.tanh(raw) + 1.0))

    def sample(self, key: jax.Array) -> jax.Array:
        """Sample the value before the tanh, `[..., num_dims]`."""
        noise = jax.random.normal(key, self.mean.shape)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, before: jax.Array) -> jax.Array:
        r"""Compute the log-density of the action $\tanh(u)$, `[...]`.

        $\log p(a) = \sum_i \log N(u_i) - \log(1 - \tanh^2 u_i)$. The second term is written as
        $2 (\log 2 - u - \text{softplus}(-2u))$, which is exact for large |u| too.

        Args:
            before: u, `[..., num_dims]`.
        """
        z = (before - self.mean) * jnp.exp(-self.log_std)
        normal = -0.5 * (z**2 + jnp.log(2 * jnp.pi)) - self.log_std
        slope = 2.0 * (jnp.log(2.0) - before - jax.nn.softplus(-2.0 * before))
        return (normal - slope).sum(-1)

    def mode(self) -> jax.Array:
        """Return the action of the Gaussian's mean, `[..., num_dims]`."""
        return jnp.tanh(self.mean)


def num_dims(env: Any) -> int:
    """Count the dimensions of continuous actions.

    Raises:
        ValueError: if actions are not a vector in [-1, 1].
    """
    space = env.action_space(env.default_params)
    is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1
    if (
        not is_vector
        or (jnp.asarray(space.low) != -1).any()
        or (jnp.asarray(space.high) != 1).any()
    ):
        bounds = f" from {space.low} to {space.high}" if is_vector else ""
        raise ValueError(
            f"action_space: {describe_space(space)}{bounds} is not valid; it must be a Box with "
            "one dimension from -1 to 1 (ScaleAction makes one)"
        )
    return space.shape[0]


def check_vectors(env: Any) -> None:
    """Raise a ValueError unless observations are vectors, to which actions can be appended."""
    shape = obs_shape(env.observation_space(env.default_params))
    if len(shape) != 1:
        raise ValueError(
            f"observation_space: observations of shape {shape} are not valid; they must be "
            "vectors (FlattenObservation makes them), because actions are appended to them"
        )
