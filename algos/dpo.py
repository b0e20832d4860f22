"""Discovered policy optimisation (Lu et al. 2022, arXiv 2210.05639): PPO with another drift.

A fork of `ppo.py`. A drift function in closed form replaces clipping. The authors distilled it from
the drift that evolution had learned (LPO); its constants are theirs (eq. 9).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from algos import ppo
from algos.ppo import Config, LossInputs
from purejaxrl.algorithm import Algorithm
from purejaxrl.validation import hyper

__all__ = ["Config", "Hypers", "drift", "make", "policy_loss"]


class Hypers(ppo.Hypers):
    """PPO's hyperparameters; `clip_eps` is not used."""

    alpha: float = hyper(2.0, above=0)
    """Threshold of the drift for actions with a positive advantage."""
    beta: float = hyper(0.6, above=0)
    """Threshold of the drift for actions with a negative advantage."""


def drift(
    log_ratio: jax.Array, advantage: jax.Array, alpha: jax.Array, beta: jax.Array
) -> jax.Array:
    """Compute the drift: never negative, and 0 at the old policy, where its gradient is 0 too."""
    gain = (jnp.exp(log_ratio) - 1) * advantage
    loss = log_ratio * advantage
    better = jax.nn.relu(gain - alpha * jnp.tanh(gain / alpha))
    worse = jax.nn.relu(loss - beta * jnp.tanh(loss / beta))
    return jnp.where(advantage >= 0, better, worse)


def policy_loss(x: LossInputs, hypers: Hypers) -> jax.Array:
    """Compute the negative objective of mirror learning: `[...]` to `[...]`."""
    penalty = drift(x.log_ratio, x.advantage, hypers.alpha, hypers.beta)
    return penalty - jnp.exp(x.log_ratio) * x.advantage


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make DPO for a gymnax environment; see `ppo.make`."""
    return ppo.make(config, env, policy_loss, torso)
