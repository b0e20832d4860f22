"""The meta-gradient of one agent, and its sum over the agents of a world (LPG algorithm 1)."""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Algorithm, Metrics, advance_where, is_finite
from purejaxrl.meta import critic as critics
from purejaxrl.meta.agents import Agent, AgentSetup, with_in_place, without_in_place
from purejaxrl.meta.critic import CriticState
from purejaxrl.meta.lifetime import update_alive
from purejaxrl.meta.metrics import summarize_updates
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.running.devices import group_size

if TYPE_CHECKING:
    from purejaxrl.meta.gradient import Config, Hypers


class Advanced(NamedTuple):
    """Agents after a meta-step, leaves `[n, ...]`."""

    agents: Agent
    estimates: ValueEstimates  # of their last experience
    metrics: Metrics


def sum_gradients(
    config: "Config", setup: AgentSetup, theta: Any, hypers: "Hypers", agents: Agent
) -> tuple[Any, Advanced]:
    """Advance this device's agents of a world `[n]`, and add up their meta-gradients.

    Agents are vmapped a group at a time.

    Returns:
        The sum, shaped like θ, and the other results of `meta_gradient`, leaves `[n, ...]`.
    """
    num_agents = jax.tree.leaves(agents)[0].shape[0]
    size = group_size(num_agents, config.group)
    num_groups = num_agents // size
    gradients = jax.vmap(lambda agent: meta_gradient(config, setup, theta, hypers, agent))
    flat = lambda x: x.reshape(num_agents, *x.shape[2:])  # noqa: E731
    grouped = lambda x: x.reshape(num_groups, size, *x.shape[1:])  # noqa: E731

    def add(carry: tuple[Any, list], inputs: tuple[jax.Array, Agent]):
        (total, written), (start, group) = carry, inputs
        take = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size)  # noqa: E731
        put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)  # noqa: E731
        group = with_in_place(setup, group, jax.tree.map(take, written))
        grads, group, *rest = gradients(group)
        group, new = without_in_place(setup, group)
        total = jax.tree.map(lambda t, g: t + g.sum(0), total, grads)
        return (total, jax.tree.map(put, written, new)), (group, *rest)

    # Fields written in place are not reshaped to groups: XLA would copy them for groups of one.
    agents, written = without_in_place(setup, agents)
    carry = jax.tree.map(jnp.zeros_like, theta), written
    starts = size * jnp.arange(num_groups)
    (total, written), results = jax.lax.scan(add, carry, (starts, jax.tree.map(grouped, agents)))
    agents, estimates, metrics = jax.tree.map(flat, results)
    return total, Advanced(with_in_place(setup, agents, written), estimates, metrics)


def meta_gradient(
    config: "Config", setup: AgentSetup, theta: Any, hypers: "Hypers", agent: Agent
) -> tuple[Any, Agent, ValueEstimates, Metrics]:
    """Advance one agent, and its antagonist, by K updates.

    Returns:
        The clipped meta-gradient, zero if the agent is not sound; the agent; values and advantages
        of its last experience; and metrics, among them `sound`: whether its meta-loss, gradient
        and parameters are finite.
    """
    antagonist = update_antagonist(config, setup.antagonist, agent.antagonist, hypers.antagonist)
    (loss, (after, estimates, metrics)), grads = jax.value_and_grad(
        partial(meta_loss, config, setup), has_aux=True
    )(theta, hypers, agent._replace(antagonist=()))
    sound = is_finite((loss, grads, after.state.params, after.critic.params))
    norm = optax.global_norm(grads)
    scale = jnp.minimum(1.0, hypers.max_grad_norm / jnp.maximum(norm, 1e-30))
    grads = jax.tree.map(lambda g: jnp.where(sound, scale * g, 0.0), grads)
    metrics |= {"meta_loss": loss, "agent_grad_norm": norm, "clipped": 1.0 * (scale < 1)}
    return grads, after._replace(antagonist=antagonist), estimates, metrics | {"sound": sound}


def meta_loss(
    config: "Config", setup: AgentSetup, theta: Any, hypers: "Hypers", agent: Agent
) -> tuple[jax.Array, tuple[Agent, ValueEstimates, Metrics]]:
    """Make K updates of one agent, and return the meta-loss of the result (LPG algorithm 1)."""
    agent_hypers = setup.hypers_of(agent, theta, hypers)
    advance = partial(update_agent, setup, hypers, agent_hypers)
    if config.rematerialize:
        advance = jax.checkpoint(advance)
    agent, (metrics, alive) = jax.lax.scan(advance, agent, length=config.num_updates)

    state, experience = collect_detached(setup.world.inner, agent.state, agent_hypers)
    seen = experience.transitions
    critic, estimates = jax.lax.stop_gradient(estimate(setup, agent, seen, hypers))
    advantage = critics.normalize_advantage(critic, estimates.advantage)
    log_prob, entropies = setup.world.inner.log_prob(state, experience)
    chex.assert_equal_shape([log_prob, estimates.advantage])
    metrics = summarize_updates(metrics, alive, setup.world.inner.episode_means) | entropies
    loss = -(log_prob * advantage).mean()
    if hypers.regularizer is not None:
        loss += hypers.regularizer.loss(metrics)
    critic, explained = critics.update(
        setup.world.critic, critic, seen, estimates.target, hypers.critic_learning_rate
    )
    agent = agent._replace(state=state, critic=critic)
    metrics["env_steps"] += setup.world.inner.steps_per_update
    metrics |= {"explained_variance": explained}
    return loss, jax.lax.stop_gradient((agent, estimates, metrics))


def update_agent(
    setup: AgentSetup, hypers: "Hypers", agent_hypers: Any, agent: Agent, _: None = None
) -> tuple[Agent, tuple[Metrics, jax.Array]]:
    """Make one update of an agent and of its critic, unless the agent's life is over.

    Returns:
        The agent, and metrics with whether the update was made, bool [].
    """
    state, experience = collect_detached(setup.world.inner, agent.state, agent_hypers)
    seen = experience.transitions
    critic, estimates = estimate(setup, agent, seen, hypers)
    state, metrics = setup.world.inner.learn(state, agent_hypers, experience)
    critic, _ = critics.update(
        setup.world.critic, critic, seen, estimates.target, hypers.critic_learning_rate
    )
    alive = agent.state.step < agent.state.task.horizon
    agent = agent._replace(
        state=advance_where(setup.world.inner, alive, state, agent.state),
        critic=tree_where(alive, critic, agent.critic),
    )
    counts = {name: metrics[name] for name in ("episodes", "env_steps")}
    counts = jax.tree.map(lambda x: jnp.where(alive, x, 0), counts)
    return agent, (metrics | counts, alive)


def update_antagonist(
    config: "Config", antagonist: Algorithm | None, state: Any, hypers: Any
) -> Any:
    """Make K updates of an antagonist, which ends its life with the agent; () without one."""
    if antagonist is None:
        return ()
    advance = lambda state, _: (update_alive(antagonist, state, hypers), None)  # noqa: E731
    return jax.lax.scan(advance, state, length=config.num_updates)[0]


def collect_detached(inner: Algorithm, state: Any, hypers: Any) -> tuple[Any, Any]:
    """Collect experience; gradients flow only through the fields in `inner.differentiable`."""
    after, experience = inner.collect(*jax.lax.stop_gradient((state, hypers)))
    kept = {field: getattr(state, field) for field in inner.differentiable}
    return after._replace(**kept), experience


def estimate(
    setup: AgentSetup, agent: Agent, seen: Any, hypers: "Hypers"
) -> tuple[CriticState, ValueEstimates]:
    """Estimate values and advantages by the agent's critic, and advance its statistics."""
    return critics.estimate(setup.world.critic, agent.critic, seen, hypers.gamma, hypers.gae_lambda)
