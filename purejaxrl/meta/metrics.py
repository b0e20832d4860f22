"""Metrics of one meta-step, computed from those of its updates and its agents."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import EPISODE_MEANS, Metrics
from purejaxrl.meta.sharding import sum_over_shards


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Average `x` where the mask is True: `[]`; NaN if it is True nowhere."""
    return jnp.where(mask, x, 0.0).sum() / jnp.where(mask.any(), mask.sum(), jnp.nan)


def summarize_updates(
    metrics: Metrics, alive: jax.Array, episode_means: Sequence[str] = EPISODE_MEANS
) -> Metrics:
    """Average metrics of K updates, `[K]` to `[]`; episodes weight the means over episodes.

    Args:
        metrics: those of the updates; `episodes` and `env_steps` are 0 where none was made.
        alive: bool `[K]`, which updates were made.
        episode_means: names of the means over episodes.
    """
    episodes = metrics["episodes"]
    count = episodes.sum()

    def mean_of_episodes(x: jax.Array) -> jax.Array:
        total = jnp.where(episodes > 0, x * episodes, 0.0).sum()
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    whole = {"episodes": count, "env_steps": metrics["env_steps"].sum()}
    return whole | {
        name: mean_of_episodes(x) if name in episode_means else masked_mean(x, alive)
        for name, x in metrics.items()
        if name not in whole
    }


def smooth_return(before: jax.Array, metrics: Metrics) -> jax.Array:
    """Update the exponential average of returns; meta-steps without episodes change nothing."""
    now = metrics["return"]
    mixed = jnp.where(jnp.isnan(before), now, 0.8 * before + 0.2 * now)
    return jnp.where(metrics["episodes"] > 0, mixed, before).astype(before.dtype)


def summarize_agents(
    metrics: Metrics,
    over: jax.Array,
    late_return: jax.Array,
    episode_means: Sequence[str] = EPISODE_MEANS,
) -> Metrics:
    """Reduce metrics of this device's agents, `[n]`, to means over the agents of all devices.

    Three metrics are added: `final_return`, the mean late return of the agents whose life is
    `over`; `lives_ended`, the number of these agents; and `unsound`, the number of agents with a
    loss, a gradient or a parameter that is not finite.
    """

    def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
        weight = jnp.where(jnp.isfinite(x), weight, 0.0)
        total, weight = sum_over_shards(
            (jnp.where(weight > 0, x * weight, 0.0).sum(), weight.sum())
        )
        return jnp.where(weight > 0, total / jnp.maximum(weight, 1e-8), jnp.nan)

    episodes = metrics["episodes"].astype(jnp.float32)
    weights = dict.fromkeys(episode_means, episodes)
    summed = {"episodes", "env_steps"}
    out = {
        name: sum_over_shards(x.sum()) if name in summed else mean(x, weights.get(name, 1.0))
        for name, x in metrics.items()
        if name != "sound"
    }
    return out | {
        "final_return": mean(late_return, over.astype(jnp.float32)),
        "lives_ended": sum_over_shards(over.sum()),
        "unsound": sum_over_shards((~metrics["sound"]).sum()),
    }
