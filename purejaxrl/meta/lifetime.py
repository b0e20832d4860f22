"""Lives: how long an agent learns, what it has come to in the end, and who takes its place."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm, Task, update
from purejaxrl.running.evaluate import evaluate


def live(
    algorithm: Algorithm,
    env: Any,
    key: jax.Array,
    hypers: Any,
    task: Task,
    *,
    num_episodes: int = 16,
    max_steps: int = 10_000,
) -> jax.Array:
    """Live one whole life, of a traced length, and return what its last policy earns: `[]`.

    Args:
        algorithm: of the agent.
        env: where its policy is evaluated.
        key: typed key.
        hypers: the agent's.
        task: the level and the number of updates.
        num_episodes: evaluation episodes, of sampled actions.
        max_steps: where to stop them at the latest.
    """
    init_key, exam_key = jax.random.split(key)
    state = jax.lax.while_loop(
        lambda state: state.step < state.task.horizon,
        lambda state: update(algorithm, state, hypers)[0],
        algorithm.init(init_key, hypers, task),
    )
    found = evaluate(
        algorithm, env, exam_key, algorithm.policy(state), task.env_params,
        num_episodes=num_episodes, greedy=False, max_steps=max_steps,
    )  # fmt: skip
    return found.ret.mean()


def staggered(horizon: jax.Array, index: jax.Array, num_agents: int) -> jax.Array:
    """Cut an agent's first life short, so that lives do not all end at once: int32.

    Args:
        horizon: full length of its life, in updates.
        index: which of the agents it is.
        num_agents: of how many.
    """
    return jnp.maximum(1, -(-horizon * (index + 1) // num_agents)).astype(horizon.dtype)


def replace_each(agents: Any, finished: jax.Array, replacement: Callable) -> Any:
    """Replace agents one after the other: it costs as much as there are to replace.

    Args:
        agents: leaves `[num_agents, ...]`.
        finished: bool `[num_agents]`, whom to replace.
        replacement: `(agent, index) -> agent`.
    """
    order = jnp.argsort(~finished, stable=True)  # the finished first

    def replace(i: jax.Array, agents: Any) -> Any:
        take = lambda x: jax.lax.dynamic_index_in_dim(x, order[i], keepdims=False)  # noqa: E731
        put = lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, order[i], 0)  # noqa: E731
        return jax.tree.map(put, agents, replacement(jax.tree.map(take, agents), order[i]))

    return jax.lax.fori_loop(0, finished.sum(), replace, agents)


def for_finished(function: Callable, agents: Any, finished: jax.Array, slots: int) -> Any:
    """Map a function over the agents whose life is over, `slots` at a time until none is left.

    Args:
        function: `(agent) -> tree of floats`.
        agents: leaves `[num_agents, ...]`.
        finished: bool `[num_agents]`.
        slots: agents that are vmapped at a time.

    Returns:
        What the function returns, `[num_agents, ...]`; NaN for the others.
    """
    num_agents = finished.shape[0]
    slots = min(slots, num_agents)
    size = -(-num_agents // slots) * slots
    whom = jnp.flatnonzero(finished, size=size, fill_value=num_agents)  # the fill is not written

    def judge(i: jax.Array, results: Any) -> Any:
        index = jax.lax.dynamic_slice_in_dim(whom, i * slots, slots)
        some = jax.vmap(function)(jax.tree.map(lambda x: x.at[index].get(mode="clip"), agents))
        return jax.tree.map(lambda all, x: all.at[index].set(x, mode="drop"), results, some)

    one = jax.eval_shape(function, jax.tree.map(lambda x: x[0], agents))
    results = jax.tree.map(lambda x: jnp.full((num_agents, *x.shape), jnp.nan, x.dtype), one)
    return jax.lax.fori_loop(0, -(-finished.sum() // slots), judge, results)
