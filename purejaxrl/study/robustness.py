"""How robust a policy is over many levels: solve rates, and their conditional value at risk.

CVaR at α is the solve rate on the worst α of random levels (Rutherford et al. 2024,
arXiv 2408.15099, section 5). Which levels are the worst is decided by one set of attempts, and the
rate there is that of another set. With one set for both, the levels on which a policy was unlucky
would be called the worst.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.algorithm import Algorithm, Metrics, require_fit
from purejaxrl.identity import fingerprint, part_name
from purejaxrl.running.devices import map_members
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
        algorithm: the algorithm of the policy.
        env: the environment of the levels.
        key: typed key.
        policy: what acts.
        levels: leaves `[num_levels, ...]`.
        num_episodes: episodes on each level.
        max_steps: steps after which an episode is cut.

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


REFILL_EVERY = 8
"""Steps between resets of the slots whose episode has ended: a reset costs as much as a step."""


class Slots(NamedTuple):
    """Environments that play one episode after the other, leaves `[num_slots, ...]`."""

    level: Any
    env_state: Any
    obs: Any
    first: jax.Array  # bool, an episode begins
    memory: Any
    episode: jax.Array  # int32, index of the episode among those of all levels
    length: jax.Array  # int32, its steps so far
    ret: jax.Array  # float32, its return so far
    ended: jax.Array  # bool; later steps do not count


def count_solved(
    algorithm: Algorithm,
    env: Any,
    key: jax.Array,
    policy: Any,
    levels: Any,
    num_episodes: int,
    max_steps: int,
    num_slots: int,
) -> jax.Array:
    """Count the episodes with a positive return on each of many levels, with sampled actions.

    A slot begins another episode soon after its last one has ended: short episodes do not wait for
    long ones, as they do in `play_levels`.

    Args:
        algorithm, env, key, policy, levels, num_episodes, max_steps: see `play_levels`.
        num_slots: environments side by side.

    Returns:
        int32 `[num_levels]`.
    """
    num_levels = jax.tree.leaves(levels)[0].shape[0]
    total = num_levels * num_episodes

    def begin(key: jax.Array, episode: jax.Array) -> Slots:
        which = jnp.minimum(episode // num_episodes, num_levels - 1)
        level = jax.tree.map(lambda x: x[which], levels)
        obs, env_state = jax.vmap(env.reset)(jax.random.split(key, num_slots), level)
        none = jnp.zeros(num_slots, bool)
        nothing = {"length": none.astype(jnp.int32), "ret": none.astype(jnp.float32)}
        memory = algorithm.memory(num_slots)
        return Slots(level, env_state, obs, ~none, memory, episode, **nothing, ended=none)

    def step(slots: Slots, key: jax.Array) -> tuple[Slots, None]:
        act_key, env_key = jax.random.split(key)
        action, memory = algorithm.act(policy, slots.memory, slots.obs, slots.first, act_key, False)
        keys = jax.random.split(env_key, num_slots)
        obs, env_state, reward, terminated, truncated, _ = jax.vmap(env.step)(
            keys, slots.env_state, action, slots.level
        )
        done, length = terminated | truncated, slots.length + 1
        return slots._replace(
            env_state=env_state, obs=obs, first=done, memory=memory, length=length,
            ret=slots.ret + reward * ~slots.ended,
            ended=slots.ended | done | (length >= max_steps),
        ), None  # fmt: skip

    def play_and_refill(carry: tuple) -> tuple:
        key, slots, begun, solved = carry
        key, reset_key, *keys = jax.random.split(key, 2 + REFILL_EVERY)
        slots, _ = jax.lax.scan(step, slots, jnp.stack(keys))
        ended = slots.ended
        where = jnp.where(ended, slots.episode // num_episodes, num_levels)
        solved = solved.at[where].add(slots.ret > 0, mode="drop")
        following = begun + jnp.cumsum(ended, dtype=jnp.int32) - 1
        fresh = begin(reset_key, jnp.where(ended, following, slots.episode))

        def renew(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        slots = jax.tree.map(renew, fresh, slots)
        return key, slots, begun + ended.sum(dtype=jnp.int32), solved

    def unfinished(carry: tuple) -> jax.Array:
        return (carry[1].episode < total).any()

    start_key, key = jax.random.split(key)
    slots = begin(start_key, jnp.arange(num_slots, dtype=jnp.int32))
    carry = key, slots, jnp.int32(num_slots), jnp.zeros(num_levels, jnp.int32)
    return jax.lax.while_loop(unfinished, play_and_refill, carry)[-1]


def solve_rates(
    algorithm: Algorithm,
    env: Any,
    state: Any,
    levels: Any,
    *,
    num_episodes: int,
    max_steps: int,
    seed: int = 0,
    num_slots: int = 1000,
) -> np.ndarray:
    """Play many levels with the policy of every member.

    Args:
        algorithm, env, levels, num_episodes, max_steps: see `play_levels`.
        state: leaves `[members, ...]`.
        seed: seed of the attempts. Each member has attempts of its own, so that intervals over
            members include the variance of the attempts.
        num_slots: environments side by side, at most.

    Returns:
        The fraction of attempts with a positive return, float64 `[members, num_levels]`.
    """
    require_fit("algorithm", algorithm, "evaluation", "act")
    num_levels = jax.tree.leaves(levels)[0].shape[0]
    num_slots = min(num_slots, num_levels * num_episodes)

    @jax.jit
    def play(keys: jax.Array, policies: Any, levels: Any) -> jax.Array:
        def one(member: tuple[jax.Array, Any]) -> jax.Array:
            return count_solved(algorithm, env, *member, levels, num_episodes, max_steps, num_slots)

        return map_members(one, (keys, policies))

    num_members = jax.tree.leaves(state)[0].shape[0]
    keys = jax.random.split(jax.random.key(seed), num_members)
    solved = play(keys, jax.vmap(algorithm.policy)(state), levels)
    return np.asarray(solved, np.float64) / num_episodes


def conditional_value_at_risk(
    chosen_by: np.ndarray, rates: np.ndarray, share: float | np.ndarray
) -> np.ndarray:
    """Average the solve rates on the worst levels, where other attempts tell which these are.

    Args:
        chosen_by: `[..., num_levels]`, solve rates that say which levels are the worst; ties are
            broken by the order of levels, which is random.
        rates: solve rates of other attempts, the same shape.
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


def jackknife_at_risk(
    chosen_by: np.ndarray, rates: np.ndarray, shares: np.ndarray, num_blocks: int
) -> np.ndarray:
    """Compute a value for each block of levels; an interval of their mean is one of the CVaR.

    These are the jackknife's pseudo-values, which tell how much a block moves the CVaR. They vary
    as CVaRs on other samples of levels would. Their mean corrects the bias that few levels cause
    (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 11.5).

    Args:
        chosen_by, rates, shares: see `conditional_value_at_risk`, `[students, num_levels]`.
        num_blocks: blocks of levels that follow each other.

    Returns:
        `[students, num_blocks, m]`.
    """
    whole = conditional_value_at_risk(chosen_by, rates, shares)
    values = []
    for block in np.array_split(np.arange(rates.shape[1]), num_blocks):
        others = (np.delete(x, block, axis=1) for x in (chosen_by, rates))
        without = conditional_value_at_risk(*others, shares)
        values.append(num_blocks * whole - (num_blocks - 1) * without)
    return np.stack(values, axis=1)


def steps_to_reach(steps: np.ndarray, rates: np.ndarray, rate: float) -> float:
    """Return the steps of the first evaluation with at least this rate; inf if there is none."""
    reached = np.flatnonzero(np.asarray(rates) >= rate)
    return float(np.asarray(steps)[reached[0]]) if len(reached) else float("inf")


def on_levels(env: Any, levels: Any, num_episodes: int, max_steps: int) -> Evaluator:
    """Evaluate policies by their mean return on levels, and by their solve rate (`solved`).

    Args:
        env, levels, num_episodes, max_steps: see `play_levels`.
    """
    how = {"num_episodes": num_episodes, "max_steps": max_steps}

    def play(algorithm: Algorithm, key: jax.Array, policy: Any, _: Any) -> Metrics:
        returns = play_levels(algorithm, env, key, policy, levels, **how)
        solved = (returns > 0).mean()
        return {"episodes": jnp.int32(returns.size), "return": returns.mean(), "solved": solved}

    return Evaluator(play, f"on_levels({part_name(env)}, {fingerprint(levels)}, {how})")


def stack_levels(levels: Iterable[Any]) -> Any:
    """Stack single levels, leaves `[num_levels, ...]`."""
    return jax.tree.map(lambda *x: jnp.stack(x), *levels)
