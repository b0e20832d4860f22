"""Advantages of time-major trajectories, and returns of episodes."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


def generalized_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array,
    gae_lambda: jax.Array,
) -> jax.Array:
    r"""Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    $\delta_t = r_t + \gamma (1 - \text{terminated}_t) V(s'_t) - V(s_t)$ and
    $A_t = \delta_t + \gamma\lambda (1 - \text{done}_t) A_{t+1}$: a truncated step bootstraps from
    its final observation, a terminated one does not, and either cuts the trace.

    Args:
        reward, value: float `[T, ...]`; `value` is V of the observation acted on.
        next_value: float `[T, ...]`, V of the observation that the action led to: the
            final one where an episode ended, not the one after the reset.
        terminated, truncated: bool `[T, ...]`.
        gamma, gae_lambda: scalars.

    Returns:
        Advantages, `[T, ...]`; add `value` for the λ-return.
    """
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * (1.0 - (terminated | truncated))

    def backward(advantage, inputs):
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(
        backward, jnp.zeros_like(delta[0]), (delta, decay), reverse=True, unroll=8
    )
    return advantage


class ValueEstimates(NamedTuple):
    """Values of the observations of a rollout, and its advantages: float32 `[T, num_envs]`."""

    value: jax.Array
    advantage: jax.Array

    @property
    def target(self) -> jax.Array:
        """λ-returns, the targets of the value loss."""
        return self.value + self.advantage


def next_values(
    value: jax.Array, last_value: jax.Array, final_value: jax.Array, truncated: jax.Array
) -> jax.Array:
    """Return V of the observation that each action led to, from the values of a rollout.

    Args:
        value: `[T, ...]`, of the observations acted on.
        last_value: `[...]`, of the observation after the last step.
        final_value: `[T, ...]`, of the final observations; read only where truncated.
        truncated: bool `[T, ...]`.
    """
    shifted = jnp.concatenate([value[1:], last_value[None]])
    return jnp.where(truncated, final_value, shifted)


class Episode(NamedTuple):
    """Running sums over the current episodes, one per environment: all `[num_envs]`."""

    ret: jax.Array
    discounted: jax.Array
    discount: jax.Array
    length: jax.Array

    @classmethod
    def start(cls, num_envs: int) -> "Episode":
        """Return the sums at the start of an episode."""
        zero = jnp.zeros(num_envs)
        return cls(zero, zero, jnp.ones(num_envs), jnp.zeros(num_envs, jnp.int32))


def episode_metrics(
    episode: Episode, reward: jax.Array, done: jax.Array, gamma: jax.Array
) -> tuple[Episode, dict[str, jax.Array]]:
    """Advance the episode sums over a rollout, and average the episodes that finished in it.

    Args:
        episode: the sums at the rollout's start.
        reward: the environment's own rewards, `[T, num_envs]`.
        done: terminated or truncated, bool `[T, num_envs]`.
        gamma: the agent's discount.

    Returns:
        The sums at the rollout's end, and scalars: `episodes`, how many finished, and the means
        of their `return`, `discounted_return` and `length` (NaN: no episode finished).
    """

    def step(episode: Episode, inputs):
        reward, done = inputs
        after = Episode(
            episode.ret + reward,
            episode.discounted + episode.discount * reward,
            episode.discount * gamma,
            episode.length + 1,
        )
        fresh = Episode.start(reward.shape[0])
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, after), after

    episode, after = jax.lax.scan(step, episode, (reward, done), unroll=8)
    count = done.sum()

    def mean(x: jax.Array) -> jax.Array:
        return jnp.where(count > 0, (x * done).sum() / jnp.maximum(count, 1), jnp.nan)

    return episode, {
        "episodes": count,
        "return": mean(after.ret),
        "discounted_return": mean(after.discounted),
        "length": mean(after.length),
    }
