"""Running normalisation as pure functions; the statistics are part of an agent's state.

Statistics stay fixed during a rollout and advance once after it. So all observations of a rollout
are scaled alike, and the first gradient step sees the policy that acted.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.parts.rollout import Transition


class Moments(NamedTuple):
    """Mean and variance (float32 `[...]`) of the data so far, and its amount (float32 [])."""

    mean: jax.Array
    var: jax.Array
    count: jax.Array

    @classmethod
    def start(cls, shape: tuple[int, ...] = ()) -> "Moments":
        """Return mean 0 and variance 1, with a weight that is negligible beside the first data."""
        return cls(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(()) + 1e-4)


def advance(moments: Moments, batch: jax.Array) -> Moments:
    """Merge a batch `[..., *shape]` into the moments (Chan et al. 1979)."""
    axes = tuple(range(batch.ndim - moments.mean.ndim))
    size = batch.size / moments.mean.size
    mean, var = batch.mean(axes), batch.var(axes)
    total = moments.count + size
    delta = mean - moments.mean
    return Moments(
        moments.mean + delta * size / total,
        (moments.var * moments.count + var * size + delta**2 * moments.count * size / total)
        / total,
        total,
    )


def standardize(moments: Moments, x: jax.Array, limit: float = 10.0) -> jax.Array:
    """Return (x - mean) / std, clipped to ±limit."""
    return jnp.clip((x - moments.mean) * jax.lax.rsqrt(moments.var + 1e-8), -limit, limit)


class Scale(NamedTuple):
    """Mean and standard deviation of data that does not change, float32 `[entries]`."""

    mean: jax.Array
    std: jax.Array

    @classmethod
    def of(cls, data: jax.Array) -> "Scale":
        """Measure data `[n, entries]`; the deviation of an entry that never changes is 1."""
        std = data.std(0)
        return cls(data.mean(0), jnp.where(std > 1e-6, std, 1.0))

    def to_unit(self, x: jax.Array) -> jax.Array:
        """Standardise `[..., entries]`."""
        return (x - self.mean) / self.std

    def from_unit(self, x: jax.Array) -> jax.Array:
        """Undo `to_unit`."""
        return x * self.std + self.mean


class RewardScale(NamedTuple):
    """Moments of the discounted return, by which rewards are scaled, and its current value."""

    moments: Moments
    ret: jax.Array  # [num_envs]

    @classmethod
    def start(cls, num_envs: int) -> "RewardScale":
        """Return a scale of 1."""
        return cls(Moments.start(), jnp.zeros(num_envs))


def restart_returns(tree: Any) -> Any:
    """Set the discounted returns of all reward scales in a tree to 0: new episodes begin."""
    is_scale = lambda x: isinstance(x, RewardScale)  # noqa: E731
    restart = lambda x: x._replace(ret=jnp.zeros_like(x.ret)) if is_scale(x) else x  # noqa: E731
    return jax.tree.map(restart, tree, is_leaf=is_scale)


def advance_scale(
    scale: RewardScale, reward: jax.Array, done: jax.Array, gamma: jax.Array
) -> RewardScale:
    """Advance the discounted returns, and their moments, over rewards `[T, num_envs]`."""

    def step(ret, inputs):
        reward, done = inputs
        ret = gamma * ret + reward
        return jnp.where(done, 0.0, ret), ret

    ret, returns = jax.lax.scan(step, scale.ret, (reward, done), unroll=8)
    return RewardScale(advance(scale.moments, returns), ret)


def scale_rewards(scale: RewardScale | None, reward: jax.Array, limit: float = 10.0) -> jax.Array:
    """Divide rewards by the standard deviation of the discounted return, clipped to ±limit.

    The mean of the rewards is not subtracted (Engstrom et al. 2020, code-level optimisation 2).
    Without a scale, rewards are returned as they are.
    """
    if scale is None:
        return reward
    return jnp.clip(reward * jax.lax.rsqrt(scale.moments.var + 1e-8), -limit, limit)


class Normalizer(NamedTuple):
    """An agent's running statistics; a part that is None does not normalise."""

    obs: Moments | None
    reward: RewardScale | None

    @classmethod
    def start(
        cls, obs: bool, reward: bool, obs_shape: tuple[int, ...], num_envs: int
    ) -> "Normalizer":
        """Return initial statistics of observations, of rewards, or of both."""
        return cls(
            Moments.start(obs_shape) if obs else None,
            RewardScale.start(num_envs) if reward else None,
        )


def normalize_obs(moments: Moments | None, obs: jax.Array) -> jax.Array:
    """Standardise observations `[..., *obs_shape]`; without moments, return them as they are."""
    return obs if moments is None else standardize(moments, obs)


def advance_normalizer(
    normalizer: Normalizer, obs: jax.Array, reward: jax.Array, done: jax.Array, gamma: jax.Array
) -> Normalizer:
    """Advance the statistics over a rollout `[T, num_envs, ...]`."""
    moments, scale = normalizer
    return Normalizer(
        None if moments is None else advance(moments, obs),
        None if scale is None else advance_scale(scale, reward, done, gamma),
    )


def normalize_rollout(
    normalizer: Normalizer, transitions: Transition, gamma: jax.Array
) -> tuple[Normalizer, Transition]:
    """Standardise the observations of a rollout, and then advance the statistics over it.

    Rewards stay as they are.
    """
    x, moments = transitions, normalizer.obs
    done = x.terminated | x.truncated
    after = advance_normalizer(normalizer, x.obs, x.reward, done, gamma)
    normalized = x._replace(
        obs=normalize_obs(moments, x.obs), final_obs=normalize_obs(moments, x.final_obs)
    )
    return after, normalized
