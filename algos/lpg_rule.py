"""LPG's rule: the network that reads an agent's experience, and what it reads and outputs."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.parts.gru import declare_weights, gru


class RuleInputs(NamedTuple):
    """What a rule reads: float32 `[num_steps, num_envs]`; predictions `[..., num_predictions]`."""

    reward: jax.Array
    terminated: jax.Array  # 1 where the step ended the episode; 0 elsewhere, also where truncated
    done: jax.Array  # bool: terminated or truncated; the recurrent state is reset
    gamma: jax.Array  # []
    prob: jax.Array  # π(a|s)
    prediction: jax.Array  # y(s), a distribution
    next_prediction: jax.Array  # y(s'), of the true next observation; 0 where terminated
    age: jax.Array = 0.0  # [] n/N, the fraction of the agent's updates done; TA-LPG reads it
    horizon: jax.Array = 1.0  # [] N, length of the agent's life in updates; TA-LPG reads it


class Target(NamedTuple):
    """A rule's outputs: the targets of an agent's update."""

    pi: jax.Array  # π̂ `[num_steps, num_envs]`, weight of log π(a|s)
    log_y: jax.Array  # log ŷ `[num_steps, num_envs, num_predictions]`


def check_target(target: Target, num_predictions: int, like: jax.Array) -> None:
    """Raise a ValueError unless a rule returned a `Target` of the right shapes.

    Args:
        target: what it returned.
        num_predictions: of the agent.
        like: an array `[num_steps, num_envs]`.
    """
    if not isinstance(target, Target):
        raise ValueError(
            f"rule: it returned a {type(target).__name__}; it must return a Target(pi, log_y)"
        )
    wanted = {"pi": like.shape, "log_y": (*like.shape, num_predictions)}
    for name, shape in wanted.items():
        found = jnp.shape(getattr(target, name))
        if found != shape:
            raise ValueError(f"rule: its {name} has shape {found}; it must have shape {shape}")


LONGEST_HORIZON = 1e3
"""The most steps that an episode's end costs."""


def charge_steps(x: RuleInputs, cost: jax.Array) -> RuleInputs:
    """Subtract the cost of a step from rewards, as if it had to be paid for ever.

    A step that ends the episode costs 1 / (1 - γ) times as much: itself, and all steps that would
    follow. So all values are lower by cost / (1 - γ), and the best policy stays the same. If the
    end of an episode saved the cost, agents that are seldom rewarded would learn to end it.

    Args:
        x: what a rule reads.
        cost: float32 [], in units of the rewards.
    """
    horizon = 1 / jnp.maximum(1 - x.gamma, 1 / LONGEST_HORIZON)
    return x._replace(reward=x.reward - cost * jnp.where(x.terminated > 0, horizon, 1.0))


class Rule(nn.Module):
    """The learned algorithm: `RuleInputs` to a `Target`, by a GRU that runs backwards in time."""

    width: int
    embedding: int
    num_predictions: int

    @nn.compact
    def __call__(self, x: RuleInputs) -> Target:  # noqa: D102
        embed = nn.Sequential([nn.Dense(self.embedding), nn.relu, nn.Dense(1)])
        states = self.read_backwards(
            x,
            x.reward,
            x.terminated,
            x.gamma,
            x.prob,
            embed(x.prediction)[..., 0],
            embed(x.next_prediction)[..., 0],
        )
        pi = nn.Dense(1)(states)[..., 0]
        return Target(pi, jax.nn.log_softmax(nn.Dense(self.num_predictions)(states)))

    def read_backwards(self, x: RuleInputs, *features: jax.Array) -> jax.Array:
        """Return the recurrent states `[num_steps, num_envs, width]`.

        Args:
            x: what the rule reads.
            features: the inputs of the GRU, scalars or `[num_steps, num_envs]`; the extra inputs
                of a fork's rule come after them.
        """
        features = [jnp.broadcast_to(f, x.reward.shape) for f in (*features, *self.extra_inputs(x))]
        features = jnp.stack(features, axis=-1)
        weights = declare_weights(self, features.shape[-1], self.width)
        backward = lambda tree: jax.tree.map(lambda x: x[::-1], tree)  # noqa: E731
        return backward(gru(weights, *backward((features, x.done))))

    def extra_inputs(self, x: RuleInputs) -> tuple[jax.Array, ...]:
        """Return more inputs, scalars or `[num_steps, num_envs]`; a fork overrides this."""
        return ()
