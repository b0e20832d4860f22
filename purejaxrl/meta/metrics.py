"""Metrics of a meta-step from those of the updates and the agents in it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Metrics


def summarize(metrics: Metrics) -> Metrics:
    """Metrics of several updates as one: `[K]` to `[]`; of episodes, weighed by their number."""
    episodes = metrics["episodes"]
    count = episodes.sum()

    def mean_of_episodes(x: jax.Array) -> jax.Array:
        total = jnp.where(episodes > 0, x * episodes, 0.0).sum()
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    whole = {"episodes": count, "env_steps": metrics["env_steps"].sum()}
    of_episodes = {"return", "discounted_return", "length"}
    return whole | {
        name: mean_of_episodes(x) if name in of_episodes else x.mean()
        for name, x in metrics.items()
        if name not in whole
    }


def late_return(before: jax.Array, metrics: Metrics) -> jax.Array:
    """Average an agent's returns, exponentially over its meta-steps with episodes."""
    now = metrics["return"]
    mixed = jnp.where(jnp.isnan(before), now, 0.8 * before + 0.2 * now)
    return jnp.where(metrics["episodes"] > 0, mixed, before).astype(before.dtype)


def mean_over(x: jax.Array, which: jax.Array) -> jax.Array:
    """Mean over some, bool of the same shape; NaN if there are none."""
    return jnp.where(which, x, 0.0).sum() / jnp.where(which.any(), which.sum(), jnp.nan)


def over_agents(
    metrics: Metrics, finished: jax.Array, late: jax.Array, over_devices: Callable
) -> Metrics:
    """Metrics of one meta-step from those of its agents `[num_agents]`.

    Besides the means: `final_return`, of the agents whose life ended, and `unsound`, how many had
    a loss, gradient or parameter that was not finite.
    """

    def mean(x: jax.Array, weight: jax.Array) -> jax.Array:
        weight = jnp.where(jnp.isfinite(x), weight, 0.0)
        total, weight = over_devices((jnp.where(weight > 0, x * weight, 0.0).sum(), weight.sum()))
        return jnp.where(weight > 0, total / jnp.maximum(weight, 1e-8), jnp.nan)

    episodes = metrics["episodes"].astype(jnp.float32)
    weights = {"return": episodes, "discounted_return": episodes, "length": episodes}
    summed = {"episodes", "env_steps"}
    out = {
        name: over_devices(x.sum()) if name in summed else mean(x, weights.get(name, 1.0))
        for name, x in metrics.items()
        if name != "sound"
    }
    return out | {
        "final_return": mean(late, finished.astype(jnp.float32)),
        "lives_ended": over_devices(finished.sum()),
        "unsound": over_devices((~metrics["sound"]).sum()),
    }
