"""Exact optima of finite MDPs, and the policies that reach them, for tests.

`solve` is for the discounted problem without a time limit, where the best policy is stationary.
`solve_episode` is for the episode up to its limit, where the best policy depends on the time.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs.tabular import Level

NUM_DOUBLINGS = 25
"""A policy is evaluated over 2**25 steps, enough for discounts of up to 1 - 1e-6."""

matmul = partial(jnp.matmul, precision="highest")


class Solution(NamedTuple):
    """An optimum: `[S]`, or `[num_steps, S]` if it depends on the time."""

    value: jax.Array  # float32, expected return from a state
    policy: jax.Array  # int32, the best action


def solve(level: Level, gamma: jax.Array | float) -> Solution:
    """Solve the discounted problem without a time limit, by policy iteration.

    Values are exact to float32: relative errors of 1e-6 at a discount of 0.9, 1e-4 at 0.999.

    Args:
        level: the MDP; `gamma * (1 - terminate_prob)` must be less than 1.
        gamma: discount; may be traced.

    Returns:
        Value and policy, `[S]`.
    """

    def greedy(value: jax.Array) -> Solution:
        policy = best_action(action_values(level, value, gamma))
        return Solution(evaluate(level, policy, gamma), policy)

    def improves(pair: tuple[Solution, Solution]) -> jax.Array:
        best, candidate = pair
        return candidate.value.sum() > best.value.sum()  # strict, so that rounding cannot cycle

    def improve(pair: tuple[Solution, Solution]) -> tuple[Solution, Solution]:
        _, candidate = pair
        return candidate, greedy(candidate.value)

    first = greedy(jnp.zeros(level.reward.shape[0]))
    best, _ = jax.lax.while_loop(improves, improve, (first, greedy(first.value)))
    return best


def solve_episode(level: Level, num_steps: int, gamma: jax.Array | float = 1.0) -> Solution:
    """Solve an episode by backward induction over time.

    Args:
        level: the MDP.
        num_steps: length of the table; at least the level's time limit.
        gamma: discount; 1 for the undiscounted return.

    Returns:
        Value and policy, `[num_steps, S]`; the value is 0 from the time limit on.
    """

    def backup(value: jax.Array, time: jax.Array) -> tuple[jax.Array, Solution]:
        q = action_values(level, value, gamma)
        value = jnp.where(time < level.max_steps_in_episode, q.max(-1), 0.0)
        return value, Solution(value, best_action(q))

    nothing = jnp.zeros(level.reward.shape[0])
    _, solution = jax.lax.scan(backup, nothing, jnp.arange(num_steps), reverse=True)
    return solution


def evaluate(level: Level, policy: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Value of a stationary policy without a time limit: float32 `[S]`.

    With M the discounted transition matrix of the policy, the series r + Mr + M²r + … is summed by
    doubling: k products make 2^k terms. A linear solve would do, but many small factorisations at
    once, as under `vmap`, can deadlock on CPU.

    Args:
        level: the MDP; `gamma * (1 - terminate_prob)` must be less than 1.
        policy: int32 `[S]`.
        gamma: discount.
    """
    states = jnp.arange(policy.shape[0])
    goes_on = 1 - jnp.broadcast_to(level.terminate_prob, level.reward.shape)[states, policy]
    matrix = gamma * goes_on[:, None] * level.transition[states, policy]

    def double(_: int, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, matrix = sums
        return value + matmul(matrix, value), matmul(matrix, matrix)

    value, _ = jax.lax.fori_loop(0, NUM_DOUBLINGS, double, (level.reward[states, policy], matrix))
    return value


def action_values(level: Level, value: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """Expected return of every action if `value` `[S]` follows it: float32 `[S, A]`."""
    return level.reward + gamma * (1 - level.terminate_prob) * matmul(level.transition, value)


def best_action(q: jax.Array) -> jax.Array:
    return q.argmax(-1).astype(jnp.int32)
