"""Learned policy optimisation (Lu et al. 2022, arXiv 2210.05639): PPO whose clip is learned.

A fork of `ppo.py`. The drift function is the penalty for leaving the old policy. It is a network
and a leaf of `Hypers`; `purejaxrl.meta.evolution` learns it. Mirror learning (Kuba et al. 2022)
requires that a drift is never negative, and that value and gradient are 0 at the old policy: this
network satisfies both for all parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from algos import ppo
from algos.ppo import LossInputs
from purejaxrl.algorithm import Algorithm, Task
from purejaxrl.identity import part_names
from purejaxrl.parts import networks
from purejaxrl.validation import require, require_count

MARGIN = 1e-4
"""It is subtracted from the network's output, so that the drift is 0 around the old policy."""

DriftFunction = Callable[[Any, LossInputs], jax.Array]
"""`(hypers.drift, inputs) -> drift`, elementwise: `[...]` to `[...]`."""


@dataclass(frozen=True)
class Config(ppo.Config):
    """PPO's settings, and the drift network's."""

    drift_width: int = 128
    """Width of the drift network."""
    drift_clip: float = 0.2
    """Clip range of the untrained drift, to whose penalty the network adds; inf for no clipping,
    so that evolution starts without a penalty."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "drift_width")
        require(self.drift_clip > 0, self, "drift_clip", "a number > 0")

    def make_drift(self) -> "Drift":
        """Make the drift network that these settings describe."""
        return Drift(self.drift_width, self.drift_clip)


class Hypers(ppo.Hypers):
    """PPO's hyperparameters; `clip_eps` is not used, because the drift replaces the clip."""

    drift: Any = None
    """Parameters of the `Drift`."""


def features(log_ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Compute what the drift reads, `[..., 8]`: all 0 where the ratio is 1."""
    change = 1 - jnp.exp(log_ratio)
    x = jnp.stack([log_ratio, log_ratio**2, change, change**2], axis=-1)
    return jnp.concatenate([x, x * advantage[..., None]], axis=-1)


class Drift(nn.Module):
    """A drift function: the drift of clipping, plus the output of a network without biases."""

    width: int
    clip: float

    @nn.compact
    def __call__(self, inputs: LossInputs) -> jax.Array:  # noqa: D102
        x = features(inputs.log_ratio, inputs.advantage)
        x = jnp.concatenate([x, self.extra_inputs(x, inputs.age)], axis=-1)
        hidden = jnp.tanh(nn.Dense(self.width, use_bias=False)(x))
        readout = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros)
        learned = readout(hidden)[..., 0]
        return nn.relu(clipping(inputs.log_ratio, inputs.advantage, self.clip) + learned - MARGIN)

    def extra_inputs(self, x: jax.Array, age: jax.Array) -> jax.Array:
        """Return more inputs of the drift, `[..., k]`, given its inputs `x`, `[..., 8]`: none here.

        A fork overrides this. They must be 0 where `x` is 0, which is at the old policy.
        """
        return x[..., :0]


def clipping(log_ratio: jax.Array, advantage: jax.Array, clip_eps: float) -> jax.Array:
    """Compute PPO's clipping as a drift: float32, shaped like `log_ratio`."""
    ratio = jnp.exp(log_ratio)
    return nn.relu((ratio - jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)) * advantage)


def init_drift(key: jax.Array, config: Config) -> Any:
    """Draw the parameters of an untrained drift, which clips as PPO does, up to the margin."""
    zero = jnp.zeros(1)
    return config.make_drift().init(key, LossInputs(zero, zero, zero[0]))


def with_drift(drift: Any, hypers: Hypers) -> Hypers:
    """Put a drift into hyperparameters: the `insert` of a meta-learner."""
    return hypers.replace(drift=drift)


def make(
    config: Config,
    env: Any,
    drift: DriftFunction | None = None,
    torso: nn.Module | None = None,
) -> Algorithm:
    """Make LPO for a gymnax environment with discrete or continuous actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment.
        drift: the drift function; the config's network by default.
        torso: the torso of actor and critic, as in `ppo.make`.

    Raises:
        ValueError: see `ppo.make`. `init` also raises it, if the parameters in `hypers.drift` are
            not those of the config's network.
    """
    reads_hypers = drift is None
    drift = drift or config.make_drift().apply

    def policy_loss(x: LossInputs, hypers: Hypers) -> jax.Array:
        return drift(hypers.drift, x) - jnp.exp(x.log_ratio) * x.advantage

    inner = ppo.make(config, env, policy_loss, torso)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> ppo.State:
        if reads_hypers:
            networks.check_made_by(init_drift, "Hypers.drift", hypers.drift, config)
        return inner.init(key, hypers, task)

    return inner._replace(init=init, made_of=part_names(env, drift, torso))
