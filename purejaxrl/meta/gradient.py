"""Meta-gradients: learn hyperparameters through the updates they govern (Xu et al. 2018).

Agents train side by side, each on a level of its own. In one meta-step every agent makes K updates
and then collects experience once more. The agent's meta-loss is the policy-gradient loss of its
updated policy on that experience; it is differentiated through the K updates with respect to the
meta-parameters θ. Agents whose life is over are replaced, on levels that a curriculum chooses. The
meta-learner is itself an `Algorithm`.

The inner algorithm can be any with a `log_prob`. `insert` says which of its hyperparameters θ
stands for: a rule (LPG), or PPO's learning rate, entropy bonus and discount.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec
from optax.tree_utils import tree_where

from purejaxrl.algorithm import AgentsLayout, Algorithm, Metrics, Task, advance_where, update
from purejaxrl.identity import part_name
from purejaxrl.meta import critic as critics
from purejaxrl.meta.agents import (
    Agent,
    AgentSetup,
    check_setup,
    init_agents,
    replace_finished,
    with_in_place,
    without_in_place,
)
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.base import (
    InitTheta,
    Insert,
    SampleLifetime,
    collect_nothing,
    count_lost_steps,
    nan_if_diverged,
)
from purejaxrl.meta.metrics import smooth_return, summarize_agents, summarize_updates
from purejaxrl.meta.sharding import AXIS, sum_over_shards
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.running.devices import group_size
from purejaxrl.ued.curriculum import Curriculum
from purejaxrl.validation import hyper, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_agents: int = 64
    """Agents that train side by side."""
    num_updates: int = 5
    """K, updates of every agent per meta-step, through which it is differentiated."""
    group: int | None = None
    """Agents that a device vmaps at a time; by default 1 on a CPU, all on an accelerator."""
    rematerialize: bool = False
    """Compute each update again in the backward pass instead of keeping its intermediate results:
    slower, but memory hardly grows with K."""

    def __post_init__(self):
        require_count(self, "num_agents", "num_updates", *["group"] * (self.group is not None))


class Hypers(struct.PyTreeNode):
    """What meta-training can be vmapped or swept over. Traced."""

    agent: Any = None
    """The inner algorithm's hyperparameters; those that θ stands for are ignored."""
    regularizer: Any = None
    """An object whose `loss(metrics)` is added to an agent's meta-loss; None for nothing."""
    learning_rate: float = hyper(1e-4, at_least=0)
    """Adam's step size on θ."""
    max_grad_norm: float = hyper(0.1, above=0, infinite=True)
    """Global norm to which every agent's meta-gradient is clipped, so that no agent outweighs the
    others; inf for no clipping."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount of the meta-objective."""
    gae_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the eligibility trace of the meta-objective's advantage."""
    critic_learning_rate: float = hyper(0.05, at_least=0)
    """Adam's step size for the meta-objective's critic: 0.05 suits tables, 5e-4 networks."""
    curriculum: Any = None
    """The curriculum's hyperparameters, if it has any."""
    antagonist: Any = None
    """The antagonists' hyperparameters, if there are antagonists."""


class State(NamedTuple):
    """A meta-learner. Leaves of `agents` are `[num_agents, ...]`."""

    params: Any  # θ
    opt_state: Any
    agents: Agent
    curriculum: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, meta-steps done
    lost_steps: jax.Array  # int32, meta-steps in a row without one sound agent


def make(
    config: Config,
    inner: Algorithm,
    critic: nn.Module,
    *,
    init_theta: InitTheta,
    insert: Insert,
    curriculum: Curriculum,
    sample_lifetime: SampleLifetime,
    assessment: Assessment | None = None,
) -> Algorithm:
    """Make a meta-gradient learner over an inner algorithm's hyperparameters.

    `run` shards its agents over all devices; outside of `run`, one device has all of them. It has
    diverged, and `run` freezes it, when θ or its gradient is not finite, or when no agent was
    sound in several meta-steps in a row (`base.PATIENCE`).

    Args:
        config: static settings.
        inner: the algorithm of the agents; it has a `log_prob`.
        critic: maps observations `[..., *obs_shape]` to values `[..., 1]`.
        init_theta: draws θ.
        insert: puts θ into the agents' hyperparameters.
        curriculum: chooses the levels that agents train on.
        sample_lifetime: draws the length of a life.
        assessment: how finished lives are evaluated, for a curriculum that has a score.

    Raises:
        ValueError: if the parts do not fit each other, or a life is shorter than one update.
    """
    setup = AgentSetup(inner, critic, insert, curriculum, sample_lifetime, assessment)
    check_setup(setup, config.num_agents)
    parts = critic, init_theta, insert, sample_lifetime
    everywhere = PartitionSpec()
    return Algorithm(
        config,
        partial(init, config, setup, init_theta),
        collect_nothing,
        partial(learn, config, setup),
        policy=lambda state: state.params,
        vital=vital,
        agents=AgentsLayout(
            State(*[everywhere] * 2, PartitionSpec(AXIS), *[everywhere] * 5), config.num_agents
        ),
        made_of=(
            part_name(inner.config), *inner.made_of, *map(part_name, (*parts, curriculum)),
            *(assessment.made_of if assessment else ()),
        ),
    )  # fmt: skip


def meta_optimizer(hypers: Hypers) -> optax.GradientTransformation:
    """Make the optimizer of θ."""
    return optax.adam(hypers.learning_rate)


def init(
    config: Config,
    setup: AgentSetup,
    init_theta: InitTheta,
    key: jax.Array,
    hypers: Hypers,
    task: Task,
) -> State:
    """Draw θ, and begin the lives of all agents."""
    theta_key, levels_key, agents_key, key, curriculum_key = jax.random.split(key, 5)
    theta = init_theta(theta_key)
    levels, agents = init_agents(
        setup, curriculum_key, levels_key, agents_key, theta, hypers, config.num_agents
    )
    opt_state = meta_optimizer(hypers).init(theta)
    return State(theta, opt_state, agents, levels, task, key, jnp.int32(0), jnp.int32(0))


def learn(
    config: Config, setup: AgentSetup, state: State, hypers: Hypers, _: tuple
) -> tuple[State, Metrics]:
    """Take one meta-step: the agents' updates, a step of θ, and the replacement of agents."""
    total, agents, estimates, metrics = sum_gradients(
        config, setup, state.params, hypers, state.agents
    )
    num_sound = sum_over_shards(metrics["sound"].sum())
    grads = jax.tree.map(lambda g: g / jnp.maximum(num_sound, 1), sum_over_shards(total))
    norm = optax.global_norm(grads)
    updates, opt_state = meta_optimizer(hypers).update(grads, state.opt_state, state.params)
    theta = optax.apply_updates(state.params, updates)

    agents = agents._replace(late_return=smooth_return(agents.late_return, metrics))
    finished = (agents.state.step >= agents.state.task.horizon) | ~metrics["sound"]
    metrics = summarize_agents(metrics, finished, agents.late_return, setup.inner.episode_means)
    key, levels_key = jax.random.split(state.key)
    levels, agents, level_metrics = replace_finished(
        setup, levels_key, state.curriculum, theta, hypers, agents, estimates, finished
    )
    state = State(
        theta, opt_state, agents, levels, state.task, key, state.step + 1,
        count_lost_steps(state.lost_steps, num_sound),
    )  # fmt: skip
    return state, metrics | level_metrics | {"grad_norm": norm}


def vital(state: State, metrics: Metrics) -> tuple:
    """Return what is finite as long as the meta-learner has not diverged."""
    return state.params, metrics["grad_norm"], nan_if_diverged(state.lost_steps)


def sum_gradients(
    config: Config, setup: AgentSetup, theta: Any, hypers: Hypers, agents: Agent
) -> tuple[Any, Agent, ValueEstimates, Metrics]:
    """Advance this device's agents `[n]`, and add up their meta-gradients, a group at a time.

    Returns:
        The sum, shaped like θ; and, `[n, ...]`, what `meta_gradient` returns besides.
    """
    num_agents = jax.tree.leaves(agents)[0].shape[0]
    size = group_size(num_agents, config.group)
    num_groups = num_agents // size
    groups = jax.tree.map(lambda x: x.reshape(num_groups, size, *x.shape[1:]), agents)
    gradients = jax.vmap(lambda agent: meta_gradient(config, setup, theta, hypers, agent))

    def add(carry: tuple[Any, list], inputs: tuple[jax.Array, Agent]):
        (total, written), (index, group) = carry, inputs
        take = lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False)  # noqa: E731
        put = lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, index, 0)  # noqa: E731
        group = with_in_place(setup, group, jax.tree.map(take, written))
        grads, group, *rest = gradients(group)
        group, new = without_in_place(setup, group)
        total = jax.tree.map(lambda t, g: t + g.sum(0), total, grads)
        return (total, jax.tree.map(put, written, new)), (group, *rest)

    groups, written = without_in_place(setup, groups)
    start = jax.tree.map(jnp.zeros_like, theta), written
    (total, written), (groups, *rest) = jax.lax.scan(add, start, (jnp.arange(num_groups), groups))
    groups = with_in_place(setup, groups, written)
    flat = lambda x: x.reshape(num_agents, *x.shape[2:])  # noqa: E731
    return total, *jax.tree.map(flat, (groups, *rest))


def meta_gradient(
    config: Config, setup: AgentSetup, theta: Any, hypers: Hypers, agent: Agent
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
    leaves = jax.tree.leaves((loss, grads, after.state.params, after.critic.params))
    sound = jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves]))
    norm = optax.global_norm(grads)
    scale = jnp.minimum(1.0, hypers.max_grad_norm / jnp.maximum(norm, 1e-30))
    grads = jax.tree.map(lambda g: jnp.where(sound, scale * g, 0.0), grads)
    metrics |= {"meta_loss": loss, "agent_grad_norm": norm, "clipped": 1.0 * (scale < 1)}
    return grads, after._replace(antagonist=antagonist), estimates, metrics | {"sound": sound}


def meta_loss(
    config: Config, setup: AgentSetup, theta: Any, hypers: Hypers, agent: Agent
) -> tuple[jax.Array, tuple[Agent, ValueEstimates, Metrics]]:
    """Make K updates of one agent, and return the meta-loss of the result (LPG algorithm 1)."""
    agent_hypers = setup.insert(theta, hypers.agent)
    advance = partial(update_agent, setup, hypers, agent_hypers)
    if config.rematerialize:
        advance = jax.checkpoint(advance)
    agent, metrics = jax.lax.scan(advance, agent, length=config.num_updates)

    state, experience = collect_detached(setup.inner, agent.state, agent_hypers)
    seen = experience.transitions
    estimates = jax.lax.stop_gradient(estimate(setup, agent, seen, hypers))
    log_prob, entropies = setup.inner.log_prob(state, experience)
    chex.assert_equal_shape([log_prob, estimates.advantage])
    metrics = summarize_updates(metrics, setup.inner.episode_means) | entropies
    loss = -(log_prob * estimates.advantage).mean()
    if hypers.regularizer is not None:
        loss += hypers.regularizer.loss(metrics)
    critic, explained = critics.update(
        setup.critic, agent.critic, seen, estimates.target, hypers.critic_learning_rate
    )
    agent = agent._replace(state=state, critic=critic)
    metrics["env_steps"] += setup.inner.steps_per_update
    metrics |= {"explained_variance": explained}
    return loss, jax.lax.stop_gradient((agent, estimates, metrics))


def update_agent(
    setup: AgentSetup, hypers: Hypers, agent_hypers: Any, agent: Agent, _: None = None
) -> tuple[Agent, Metrics]:
    """Make one update of an agent and of its critic, unless the agent's life is over."""
    state, experience = collect_detached(setup.inner, agent.state, agent_hypers)
    seen = experience.transitions
    target = estimate(setup, agent, seen, hypers).target
    state, metrics = setup.inner.learn(state, agent_hypers, experience)
    critic, _ = critics.update(
        setup.critic, agent.critic, seen, target, hypers.critic_learning_rate
    )
    alive = agent.state.step < agent.state.task.horizon
    agent = agent._replace(
        state=advance_where(setup.inner, alive, state, agent.state),
        critic=tree_where(alive, critic, agent.critic),
    )
    counts = {name: metrics[name] for name in ("episodes", "env_steps")}
    return agent, metrics | jax.tree.map(lambda x: jnp.where(alive, x, 0), counts)


def update_antagonist(config: Config, antagonist: Algorithm | None, state: Any, hypers: Any) -> Any:
    """Make K updates of an antagonist, which ends its life with the agent; () without one."""
    if antagonist is None:
        return ()

    def advance(state: Any, _):
        after, _ = update(antagonist, state, hypers)
        return advance_where(antagonist, state.step < state.task.horizon, after, state), None

    return jax.lax.scan(advance, state, length=config.num_updates)[0]


def collect_detached(inner: Algorithm, state: Any, hypers: Any) -> tuple[Any, Any]:
    """Collect experience; only `inner.differentiable` is differentiated, all else is data."""
    after, experience = inner.collect(*jax.lax.stop_gradient((state, hypers)))
    kept = {field: getattr(state, field) for field in inner.differentiable}
    return after._replace(**kept), experience


def estimate(setup: AgentSetup, agent: Agent, seen: Any, hypers: Hypers) -> ValueEstimates:
    """Estimate values and advantages by the agent's critic."""
    params = agent.critic.params
    return critics.estimate(setup.critic, params, seen, hypers.gamma, hypers.gae_lambda)
