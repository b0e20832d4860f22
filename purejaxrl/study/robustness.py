"""How robust a policy is over many levels: solve rates, and their conditional value at risk.

CVaR at α is the solve rate on the worst α of random levels (Rutherford et al. 2024,
arXiv 2408.15099, section 5). Which levels are the worst is decided by one set of attempts, and the
rate there is that of another set. With one set for both, the levels on which a policy was unlucky
would be called the worst.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.running.evaluate import Evaluator, evaluate


def play_levels(
    algorithm: Algorithm,
    env: Any,
    key: jax.Array,
    policy: Any,
    levels: Any,
    num_episodes: int,
    max_steps: int,
) -> jax.Array:
    """Play episodes on each of the levels, with sampled actions.

    Args:
        algorithm: the policy's.
        env: the environment of the levels.
        key: typed key.
        policy: what acts.
        levels: leaves `[num_levels, ...]`.
        num_episodes: on each level.
        max_steps: after which an episode is cut.

    Returns:
        Returns, float32 `[num_levels, num_episodes]`.
    """

    def play(key: jax.Array, level: Any) -> jax.Array:
        return evaluate(
            algorithm, env, key, policy, level,
            num_episodes=num_episodes, greedy=False, max_steps=max_steps,
        ).ret  # fmt: skip

    num_levels = jax.tree.leaves(levels)[0].shape[0]
    return jax.vmap(play)(jax.random.split(key, num_levels), levels)


def solve_rates(
    algorithm: Algorithm,
    env: Any,
    state: Any,
    levels: Any,
    *,
    num_episodes: int,
    max_steps: int,
    seed: int = 0,
    batch: int = 500,
) -> np.ndarray:
    """Play many levels with the policy of every member.

    Args:
        algorithm, env, levels, num_episodes, max_steps: as of `play_levels`.
        state: leaves `[members, ...]`.
        seed: of the attempts.
        batch: levels that are played at a time; it divides their number.

    Returns:
        The fraction of attempts with a positive return, float64 `[members, num_levels]`.
    """
    num_levels = jax.tree.leaves(levels)[0].shape[0]
    batch = min(batch, num_levels)
    if num_levels % batch:
        raise ValueError(f"batch: {batch} is not valid; it must divide {num_levels} levels")
    split = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), levels)
    keys = jax.random.split(jax.random.key(seed), num_levels // batch)

    @jax.jit
    def play(policies: Any) -> jax.Array:
        def one(policy: Any) -> jax.Array:
            def some(inputs: tuple) -> jax.Array:
                key, levels = inputs
                played = play_levels(algorithm, env, key, policy, levels, num_episodes, max_steps)
                return (played > 0).mean(-1)

            return jax.lax.map(some, (keys, split)).ravel()

        return jax.lax.map(one, policies)

    policies = jax.vmap(algorithm.policy)(state)
    return np.asarray(play(policies), np.float64)


def conditional_value_at_risk(
    chosen_by: np.ndarray, rates: np.ndarray, share: float | np.ndarray
) -> np.ndarray:
    """Average the rates of the levels that are the worst by other attempts.

    Args:
        chosen_by: `[..., num_levels]`, solve rates that say which levels are the worst; ties are
            broken by the order of levels, which is random.
        rates: of other attempts, the same shape.
        share: α in (0, 1], or several `[m]`.

    Returns:
        `[...]`, or `[..., m]` for several shares.

    Raises:
        ValueError: if a share is not in (0, 1].
    """
    share = np.asarray(share, np.float64)
    if not ((share > 0) & (share <= 1)).all():
        raise ValueError(f"share: {share} is not valid; it must be in (0, 1]")
    order = np.argsort(chosen_by, axis=-1, kind="stable")
    worst = np.take_along_axis(rates, order, axis=-1)
    means = np.cumsum(worst, axis=-1) / np.arange(1, worst.shape[-1] + 1)
    count = np.maximum(np.round(share * worst.shape[-1]).astype(int), 1)
    return means[..., count - 1]


def steps_to_reach(steps: np.ndarray, rates: np.ndarray, rate: float) -> float:
    """Return the steps of the first evaluation with at least this rate; inf if there is none."""
    reached = np.flatnonzero(np.asarray(rates) >= rate)
    return float(np.asarray(steps)[reached[0]]) if len(reached) else float("inf")


def on_levels(
    env: Any, levels: Any, num_episodes: int, max_steps: int, name: str = "given levels"
) -> Evaluator:
    """Evaluate policies by their mean return on levels, and by their solve rate (`solved`).

    Args:
        env, levels, num_episodes, max_steps: as of `play_levels`.
        name: of the levels.
    """

    def play(algorithm: Algorithm, key: jax.Array, policy: Any, _: Any) -> Metrics:
        returns = play_levels(algorithm, env, key, policy, levels, num_episodes, max_steps)
        solved = (returns > 0).mean()
        return {"episodes": jnp.int32(returns.size), "return": returns.mean(), "solved": solved}

    return Evaluator(play, f"{name}, {num_episodes} episodes each")


def stack_levels(levels: Iterable[Any]) -> Any:
    """Stack single levels, leaves `[num_levels, ...]`."""
    return jax.tree.map(lambda *x: jnp.stack(x), *levels)
