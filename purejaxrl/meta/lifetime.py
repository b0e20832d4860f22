"""Lives of agents: how long they train, the return of their last policy, and their replacement."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm, Task, advance_where, update
from purejaxrl.running.evaluate import MAX_STEPS, Evaluation, evaluate

Replacement = Callable[[Any, jax.Array], Any]
"""`(agent, index) -> agent`: makes the successor of one agent."""


def update_alive(algorithm: Algorithm, state: Any, hypers: Any) -> Any:
    """Make one update of an agent, unless its life is over."""
    after, _ = update(algorithm, state, hypers)
    return advance_where(algorithm, state.step < state.task.horizon, after, state)


def train_lives(
    algorithm: Algorithm, keys: jax.Array, hypers: Any, tasks: Task, hypers_axis: int | None = 0
) -> Any:
    """Train agents side by side, each for one whole life, of a traced length.

    The loop lasts as long as the longest life. Its predicate has no agent axis. A batched one, as
    in a vmapped `while_loop`, would add a select over the whole states, replay buffers included.

    Args:
        algorithm: the algorithm of the agents.
        keys: typed keys `[n]`.
        hypers: the agents' hyperparameters, leaves `[n, ...]`.
        tasks: levels and numbers of updates, leaves `[n, ...]`.
        hypers_axis: None if all agents have the same hyperparameters, without an axis.

    Returns:
        Their states at the end of their lives, leaves `[n, ...]`.
    """
    states = jax.vmap(algorithm.init, in_axes=(0, hypers_axis, 0))(keys, hypers, tasks)
    advance_all = jax.vmap(partial(update_alive, algorithm), in_axes=(0, hypers_axis))
    return jax.lax.fori_loop(
        0, tasks.horizon.max(), lambda _, states: advance_all(states, hypers), states
    )


def train_and_play(
    algorithm: Algorithm,
    env: Any,
    keys: jax.Array,
    hypers: Any,
    tasks: Task,
    hypers_axis: int | None = 0,
    *,
    num_episodes: int,
    max_steps: int = MAX_STEPS,
) -> Evaluation:
    """Train agents for one whole life each, and play their last policies.

    Args:
        algorithm, keys, hypers, tasks, hypers_axis: see `train_lives`.
        env: where policies are evaluated.
        num_episodes: evaluation episodes; actions are sampled.
        max_steps: steps after which an evaluation episode is cut.

    Returns:
        The evaluation episodes, leaves `[n, num_episodes]`.
    """
    init_keys, evaluation_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    states = train_lives(algorithm, init_keys, hypers, tasks, hypers_axis)

    def play(key: jax.Array, state: Any) -> Evaluation:
        return evaluate(
            algorithm, env, key, algorithm.policy(state), state.task.env_params,
            num_episodes=num_episodes, greedy=False, max_steps=max_steps,
        )  # fmt: skip

    return jax.vmap(play)(evaluation_keys, states)


def stagger_horizon(horizon: jax.Array, index: jax.Array, num_agents: int) -> jax.Array:
    """Cut an agent's first life short, so that lives do not all end at once: int32.

    Args:
        horizon: full length of its life, in updates.
        index: its index among the agents.
        num_agents: number of agents; up to 46,340, no product overflows, whatever the horizon.
    """
    whole, rest = horizon // num_agents, horizon % num_agents  # horizon * index can overflow
    end = whole * (index + 1) - (-rest * (index + 1) // num_agents)
    return jnp.maximum(1, end).astype(horizon.dtype)


def replace_each(agents: Any, finished: jax.Array, replacement: Replacement) -> Any:
    """Replace finished agents one after the other: the cost is in proportion to their number.

    Args:
        agents: leaves `[num_agents, ...]`.
        finished: bool `[num_agents]`, the agents to replace.
        replacement: makes an agent's successor.
    """
    order = jnp.argsort(~finished, stable=True)  # the finished first

    def replace(i: jax.Array, agents: Any) -> Any:
        take = lambda x: jax.lax.dynamic_index_in_dim(x, order[i], keepdims=False)  # noqa: E731
        put = lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, order[i], 0)  # noqa: E731
        return jax.tree.map(put, agents, replacement(jax.tree.map(take, agents), order[i]))

    return jax.lax.fori_loop(0, finished.sum(), replace, agents)


def map_finished(
    function: Callable[[Any], Any], agents: Any, finished: jax.Array, slots: int
) -> Any:
    """Map a function over the finished agents, vmapped over `slots` of them at a time.

    Args:
        function: `(agent) -> tree of floats`.
        agents: leaves `[num_agents, ...]`.
        finished: bool `[num_agents]`.
        slots: agents that are vmapped at a time.

    Returns:
        What the function returns, `[num_agents, ...]`; NaN for agents that are not finished.
    """
    num_agents = finished.shape[0]
    slots = min(slots, num_agents)
    size = -(-num_agents // slots) * slots
    index = jnp.flatnonzero(finished, size=size, fill_value=num_agents)  # the fill is not written

    def map_slots(i: jax.Array, results: Any) -> Any:
        at = jax.lax.dynamic_slice_in_dim(index, i * slots, slots)
        some = jax.vmap(function)(jax.tree.map(lambda x: x.at[at].get(mode="clip"), agents))
        return jax.tree.map(lambda all, x: all.at[at].set(x, mode="drop"), results, some)

    one = jax.eval_shape(lambda agents: function(jax.tree.map(lambda x: x[0], agents)), agents)
    results = jax.tree.map(lambda x: jnp.full((num_agents, *x.shape), jnp.nan, x.dtype), one)
    return jax.lax.fori_loop(0, -(-finished.sum() // slots), map_slots, results)
