"""Meta-gradients: learn hyperparameters through the updates they govern (Xu et al. 2018).

Agents live side by side, each on a level of its own. In one meta-step every agent makes K updates,
then collects experience once more; the policy-gradient loss of the updated policy on it,
differentiated through the updates with respect to the meta-parameters θ, is the agent's
meta-gradient. Agents whose life is over are replaced. The meta-learner is itself an `Algorithm`.

The inner algorithm can be any with a `log_prob`. `insert` says which of its hyperparameters θ
stands for: a rule (LPG), or PPO's learning rate, entropy bonus and discount.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec

from purejaxrl import optimizers
from purejaxrl.algorithm import Algorithm, Metrics, Task, part_name
from purejaxrl.devices import group_size
from purejaxrl.meta.lifetime import replace_each, select, staggered
from purejaxrl.meta.metrics import late_return, over_agents, summarize
from purejaxrl.returns import generalized_advantage
from purejaxrl.rollout import Transition
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_agents: int = 64
    """Agents that live side by side."""
    num_updates: int = 5
    """K, updates of every agent per meta-step, through which it is differentiated."""
    group: int | None = None
    """Agents that a device vmaps at a time; by default 8 on a CPU, all on an accelerator."""
    rematerialize: bool = False
    """Compute an update again in the backward pass rather than keep what it computed: slower, but
    memory hardly grows with K."""

    def __post_init__(self):
        require_count(self, "num_agents", "num_updates")
        require(self.group is None or self.group >= 1, self, "group", "an integer >= 1, or None")


class Hypers(struct.PyTreeNode):
    """What meta-training can be vmapped or swept over. Traced."""

    agent: Any = None
    """The inner algorithm's hyperparameters; those that θ stands for are ignored."""
    regularizer: Any = None
    """Has a `loss(metrics)` that is added to an agent's meta-loss; None for nothing."""
    learning_rate: float = hyper(1e-4, at_least=0)
    """Adam's step size on θ."""
    max_grad_norm: float = hyper(0.1, above=0, infinite=True)
    """Global norm to which every agent's meta-gradient is clipped, lest one that explodes outweigh
    all others; inf for no clipping."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount of the meta-objective."""
    gae_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the eligibility trace of the meta-objective's advantage."""
    critic_learning_rate: float = hyper(0.05, at_least=0)
    """Adam's step size for the meta-objective's critic: 0.05 suits tables, 5e-4 networks."""


class Critic(NamedTuple):
    """The value function of an agent's meta-objective."""

    params: Any
    opt_state: Any


class Agent(NamedTuple):
    """An agent and the critic that lives and learns with it."""

    state: Any
    critic: Critic
    late_return: jax.Array  # return of its episodes, by exponential average; NaN before any


class State(NamedTuple):
    """A meta-learner. Leaves of `agents` are `[num_agents, ...]`."""

    params: Any  # θ
    opt_state: Any
    agents: Agent
    task: Task
    key: jax.Array
    step: jax.Array  # int32, meta-steps done


def make(
    config: Config,
    inner: Algorithm,
    critic: nn.Module,
    *,
    init_theta: Callable,
    insert: Callable,
    sample_level: Callable,
    sample_lifetime: Callable,
    axis_name: str | None = "agents",
) -> Algorithm:
    """Meta-gradient learner over an inner algorithm's hyperparameters.

    Args:
        config: static settings.
        inner: the algorithm of the agents.
        critic: from observations `[..., *obs_shape]` to `[..., 1]`.
        init_theta: `(key) -> θ`, a pytree of floats.
        insert: `(θ, hypers) -> hypers`: put θ, bounded where it must be, in its place.
        sample_level: `(key) -> env_params`.
        sample_lifetime: `(key) -> int32`, in updates.
        axis_name: the mesh axis that `runner.run` lays agents over; None outside of it.
    """
    if inner.log_prob is None:
        raise ValueError("inner: an algorithm without a log_prob is not valid")

    def over_devices(tree: Any) -> Any:
        return jax.lax.psum(tree, axis_name) if axis_name else tree

    def meta_optimizer(hypers: Hypers) -> optax.GradientTransformation:
        return optax.adam(hypers.learning_rate)

    def born(key: jax.Array, theta: Any, hypers: Hypers) -> Agent:
        level_key, life_key, state_key, critic_key = jax.random.split(key, 4)
        task = Task(sample_level(level_key), sample_lifetime(life_key))
        state = inner.init(state_key, insert(theta, hypers.agent), task)
        params = critic.init(critic_key, state.obs)
        opt_state = optimizers.adam(hypers.critic_learning_rate).init(params)
        return Agent(state, Critic(params, opt_state), jnp.float32(jnp.nan))

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        theta_key, agents_key, key = jax.random.split(key, 3)
        theta = init_theta(theta_key)

        def first(inputs):
            agent_key, index = inputs
            agent = born(agent_key, theta, hypers)
            horizon = staggered(agent.state.task.horizon, index, config.num_agents)
            task = agent.state.task._replace(horizon=horizon)
            return agent._replace(state=agent.state._replace(task=task))

        keys = jax.random.split(agents_key, config.num_agents)
        agents = jax.lax.map(first, (keys, jnp.arange(config.num_agents)))
        opt_state = meta_optimizer(hypers).init(theta)
        return State(theta, opt_state, agents, task, key, jnp.int32(0))

    def advantages(params: Any, seen: Transition, hypers: Hypers):
        """Generalised advantages and λ-returns, `[num_steps, num_envs]`."""
        value = critic.apply(params, seen.obs)[..., 0]
        next_value = critic.apply(params, seen.final_obs)[..., 0]
        advantage = generalized_advantage(
            seen.reward, value, next_value, seen.terminated, seen.truncated,
            hypers.gamma, hypers.gae_lambda,
        )  # fmt: skip
        return advantage, advantage + value

    def improve(old: Critic, seen: Transition, target: jax.Array, hypers: Hypers):
        """One step towards the λ-returns; and which part of their variance was explained."""

        def loss(params):
            error = critic.apply(params, seen.obs)[..., 0] - target
            return 0.5 * (error**2).mean(), 1 - error.var() / (target.var() + 1e-8)

        grads, explained = jax.grad(loss, has_aux=True)(old.params)
        adam = optimizers.adam(hypers.critic_learning_rate)
        updates, opt_state = adam.update(grads, old.opt_state, old.params)
        return Critic(optax.apply_updates(old.params, updates), opt_state), explained

    def collect_detached(state: Any, agent_hypers: Any) -> tuple[Any, Any]:
        """Collect; the parameters keep what they depend on, all else is data."""
        after, experience = inner.collect(*jax.lax.stop_gradient((state, agent_hypers)))
        return after._replace(params=state.params, opt_state=state.opt_state), experience

    def live(theta: Any, hypers: Hypers, agent: Agent) -> tuple[jax.Array, tuple[Agent, Metrics]]:
        """K updates and the meta-loss of one agent (LPG algorithm 1)."""
        agent_hypers = insert(theta, hypers.agent)

        def advance(agent: Agent, _):
            state, experience = collect_detached(agent.state, agent_hypers)
            seen = experience.transitions
            _, target = advantages(agent.critic.params, seen, hypers)
            state, metrics = inner.learn(state, agent_hypers, experience)
            grown, _ = improve(agent.critic, seen, target, hypers)
            alive = agent.state.step < agent.state.task.horizon
            agent = agent._replace(
                state=select(alive, state, agent.state), critic=select(alive, grown, agent.critic)
            )
            return agent, metrics

        if config.rematerialize:
            advance = jax.checkpoint(advance)
        agent, metrics = jax.lax.scan(advance, agent, length=config.num_updates)

        state, experience = collect_detached(agent.state, agent_hypers)
        seen = experience.transitions
        advantage, target = jax.lax.stop_gradient(advantages(agent.critic.params, seen, hypers))
        log_prob, entropies = inner.log_prob(state, experience)
        chex.assert_equal_shape([log_prob, advantage])
        metrics = summarize(metrics) | entropies
        loss = -(log_prob * advantage).mean()
        if hypers.regularizer is not None:
            loss += hypers.regularizer.loss(metrics)
        grown, explained = improve(agent.critic, seen, target, hypers)
        agent = agent._replace(state=state, critic=grown)
        metrics["env_steps"] += inner.config.batch_size
        return loss, jax.lax.stop_gradient((agent, metrics | {"explained_variance": explained}))

    def meta_gradient(theta: Any, hypers: Hypers, agents: Agent):
        """Sum of the agents' meta-gradients, clipped, those that are finite."""

        def one(agent: Agent):
            (loss, (after, metrics)), grads = jax.value_and_grad(live, has_aux=True)(
                theta, hypers, agent
            )
            leaves = jax.tree.leaves((loss, grads, after.state.params, after.critic.params))
            sound = jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves]))
            norm = optax.global_norm(grads)
            scale = jnp.minimum(1.0, hypers.max_grad_norm / jnp.maximum(norm, 1e-30))
            grads = jax.tree.map(lambda g: jnp.where(sound, scale * g, 0.0), grads)
            about = {"meta_loss": loss, "agent_grad_norm": norm, "clipped": 1.0 * (scale < 1)}
            return grads, after, metrics | about | {"sound": sound}

        num_agents = jax.tree.leaves(agents)[0].shape[0]
        size = group_size(num_agents, config.group)
        groups = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), agents)

        def add(total: Any, group: Agent):
            grads, group, metrics = jax.vmap(one)(group)
            return jax.tree.map(lambda t, g: t + g.sum(0), total, grads), (group, metrics)

        zero = jax.tree.map(jnp.zeros_like, theta)
        total, (agents, metrics) = jax.lax.scan(add, zero, groups)
        flat = lambda x: x.reshape(num_agents, *x.shape[2:])  # noqa: E731
        return total, *jax.tree.map(flat, (agents, metrics))

    def learn(state: State, hypers: Hypers, _: tuple) -> tuple[State, Metrics]:
        total, agents, seen = meta_gradient(state.params, hypers, state.agents)
        num_sound = over_devices(seen["sound"].sum())
        grads = jax.tree.map(lambda g: g / jnp.maximum(num_sound, 1), over_devices(total))
        norm = optax.global_norm(grads)
        updates, opt_state = meta_optimizer(hypers).update(grads, state.opt_state, state.params)
        theta = optax.apply_updates(state.params, updates)

        agents = agents._replace(late_return=late_return(agents.late_return, seen))
        finished = (agents.state.step >= agents.state.task.horizon) | ~seen["sound"]
        metrics = over_agents(seen, finished, agents.late_return, over_devices)
        agents = replace_each(agents, finished, lambda old: born(old.state.key, theta, hypers))
        metrics["grad_norm"] = norm
        state = state._replace(
            params=theta, opt_state=opt_state, agents=agents, step=state.step + 1
        )
        return state, metrics

    def act(*_: Any):
        raise NotImplementedError("a meta-learner does not act: test what it learned on an agent")

    def partition() -> State:
        everywhere, over_agents = PartitionSpec(), PartitionSpec(axis_name)
        return State(*[everywhere] * 2, over_agents, *[everywhere] * 3)

    return Algorithm(
        config,
        init,
        lambda state, hypers: (state, ()),
        learn,
        policy=lambda state: state.params,
        act=act,
        vital=lambda state, metrics: (state.params, metrics["grad_norm"]),
        partition=partition() if axis_name else None,
        num_agents=config.num_agents,
        made_of=(
            str(inner.config), *inner.made_of,
            *map(part_name, (insert, sample_level, sample_lifetime)),
        ),
    )  # fmt: skip
