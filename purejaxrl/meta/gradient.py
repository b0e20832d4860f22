"""Meta-gradients: learn hyperparameters through the updates they govern (Xu et al. 2018).

Agents live side by side, each on a level of its own. In one meta-step every agent makes K updates,
then collects experience once more; the policy-gradient loss of the updated policy on it,
differentiated through the updates with respect to the meta-parameters θ, is the agent's
meta-gradient. Agents whose life is over are replaced, on levels that a curriculum chooses. The
meta-learner is itself an `Algorithm`.

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
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Algorithm, Metrics, Task, update
from purejaxrl.identity import part_name
from purejaxrl.meta import critic as critics
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.critic import Critic
from purejaxrl.meta.metrics import late_return, over_agents, summarize
from purejaxrl.meta.succession import Agent, succession
from purejaxrl.parts.returns import Estimates
from purejaxrl.running.devices import group_size
from purejaxrl.ued.curriculum import Curriculum
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_agents: int = 64
    """Agents that live side by side."""
    num_updates: int = 5
    """K, updates of every agent per meta-step, through which it is differentiated."""
    group: int | None = None
    """Agents that a device vmaps at a time; by default 1 on a CPU, all on an accelerator."""
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
    curriculum: Any = None
    """The curriculum's hyperparameters, if it has any."""
    antagonist: Any = None
    """The antagonists', if there are any."""


class State(NamedTuple):
    """A meta-learner. Leaves of `agents` are `[num_agents, ...]`."""

    params: Any  # θ
    opt_state: Any
    agents: Agent
    curriculum: Any
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
    curriculum: Curriculum,
    sample_lifetime: Callable,
    assessment: Assessment | None = None,
    axis_name: str | None = "agents",
) -> Algorithm:
    """Meta-gradient learner over an inner algorithm's hyperparameters.

    Args:
        config: static settings.
        inner: the algorithm of the agents.
        critic: from observations `[..., *obs_shape]` to `[..., 1]`.
        init_theta: `(key) -> θ`, a pytree of floats.
        insert: `(θ, hypers) -> hypers`: put θ, bounded where it must be, in its place.
        curriculum: which levels agents live on.
        sample_lifetime: `(key) -> int32`, in updates.
        assessment: how levels are scored, for a curriculum that reads scores.
        axis_name: the mesh axis that `runner.run` lays agents over; None outside of it.
    """
    if inner.log_prob is None:
        raise ValueError("inner: an algorithm without a log_prob is not valid")
    antagonist = assessment.antagonist if assessment else None
    lives = succession(inner, critic, insert, curriculum, sample_lifetime, assessment, axis_name)

    def over_devices(tree: Any) -> Any:
        return jax.lax.psum(tree, axis_name) if axis_name else tree

    def meta_optimizer(hypers: Hypers) -> optax.GradientTransformation:
        return optax.adam(hypers.learning_rate)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        theta_key, levels_key, agents_key, key = jax.random.split(key, 4)
        theta = init_theta(theta_key)
        levels, agents = lives.begin(levels_key, agents_key, theta, hypers, config.num_agents)
        opt_state = meta_optimizer(hypers).init(theta)
        return State(theta, opt_state, agents, levels, task, key, jnp.int32(0))

    def judge(params: Any, seen: Any, hypers: Hypers) -> Estimates:
        return critics.estimate(critic, params, seen, hypers.gamma, hypers.gae_lambda)

    def improve(old: Critic, seen: Any, target: jax.Array, hypers: Hypers):
        return critics.improve(critic, old, seen, target, hypers.critic_learning_rate)

    def collect_detached(state: Any, agent_hypers: Any) -> tuple[Any, Any]:
        """Collect; the parameters keep what they depend on, all else is data."""
        after, experience = inner.collect(*jax.lax.stop_gradient((state, agent_hypers)))
        return after._replace(params=state.params, opt_state=state.opt_state), experience

    def live(theta: Any, hypers: Hypers, agent: Agent):
        """K updates and the meta-loss of one agent (LPG algorithm 1)."""
        agent_hypers = insert(theta, hypers.agent)

        def advance(agent: Agent, _):
            state, experience = collect_detached(agent.state, agent_hypers)
            seen = experience.transitions
            target = judge(agent.critic.params, seen, hypers).target
            state, metrics = inner.learn(state, agent_hypers, experience)
            grown, _ = improve(agent.critic, seen, target, hypers)
            alive = agent.state.step < agent.state.task.horizon
            agent = agent._replace(
                state=tree_where(alive, state, agent.state),
                critic=tree_where(alive, grown, agent.critic),
            )
            counts = {name: metrics[name] for name in ("episodes", "env_steps")}
            return agent, metrics | jax.tree.map(lambda x: jnp.where(alive, x, 0), counts)

        if config.rematerialize:
            advance = jax.checkpoint(advance)
        agent, metrics = jax.lax.scan(advance, agent, length=config.num_updates)

        state, experience = collect_detached(agent.state, agent_hypers)
        seen = experience.transitions
        judged = jax.lax.stop_gradient(judge(agent.critic.params, seen, hypers))
        log_prob, entropies = inner.log_prob(state, experience)
        chex.assert_equal_shape([log_prob, judged.advantage])
        metrics = summarize(metrics) | entropies
        loss = -(log_prob * judged.advantage).mean()
        if hypers.regularizer is not None:
            loss += hypers.regularizer.loss(metrics)
        grown, explained = improve(agent.critic, seen, judged.target, hypers)
        agent = agent._replace(state=state, critic=grown)
        metrics["env_steps"] += inner.config.batch_size
        metrics |= {"explained_variance": explained}
        return loss, jax.lax.stop_gradient((agent, judged, metrics))

    def live_beside(rival: Any, hypers: Hypers) -> Any:
        """As many updates of one antagonist."""

        def advance(rival: Any, _):
            after, _ = update(antagonist, rival, hypers.antagonist)
            return tree_where(rival.step < rival.task.horizon, after, rival), None

        return jax.lax.scan(advance, rival, length=config.num_updates)[0] if antagonist else ()

    def meta_gradient(theta: Any, hypers: Hypers, agents: Agent):
        """Sum of the agents' meta-gradients, clipped, those that are finite."""

        def one(agent: Agent):
            rival = live_beside(agent.antagonist, hypers)
            (loss, (after, judged, metrics)), grads = jax.value_and_grad(live, has_aux=True)(
                theta, hypers, agent._replace(antagonist=())
            )
            leaves = jax.tree.leaves((loss, grads, after.state.params, after.critic.params))
            sound = jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves]))
            norm = optax.global_norm(grads)
            scale = jnp.minimum(1.0, hypers.max_grad_norm / jnp.maximum(norm, 1e-30))
            grads = jax.tree.map(lambda g: jnp.where(sound, scale * g, 0.0), grads)
            about = {"meta_loss": loss, "agent_grad_norm": norm, "clipped": 1.0 * (scale < 1)}
            metrics |= about | {"sound": sound}
            return grads, after._replace(antagonist=rival), judged, metrics

        num_agents = jax.tree.leaves(agents)[0].shape[0]
        size = group_size(num_agents, config.group)
        shape = num_agents // size, size
        groups = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), agents)

        def add(total: Any, group: Agent):
            grads, *rest = jax.vmap(one)(group)
            return jax.tree.map(lambda t, g: t + g.sum(0), total, grads), rest

        zero = jax.tree.map(jnp.zeros_like, theta)
        total, rest = jax.lax.scan(add, zero, groups)
        flat = lambda x: x.reshape(num_agents, *x.shape[2:])  # noqa: E731
        return total, *jax.tree.map(flat, rest)

    def learn(state: State, hypers: Hypers, _: tuple) -> tuple[State, Metrics]:
        total, agents, judged, seen = meta_gradient(state.params, hypers, state.agents)
        num_sound = over_devices(seen["sound"].sum())
        grads = jax.tree.map(lambda g: g / jnp.maximum(num_sound, 1), over_devices(total))
        norm = optax.global_norm(grads)
        updates, opt_state = meta_optimizer(hypers).update(grads, state.opt_state, state.params)
        theta = optax.apply_updates(state.params, updates)

        agents = agents._replace(late_return=late_return(agents.late_return, seen))
        finished = (agents.state.step >= agents.state.task.horizon) | ~seen["sound"]
        metrics = over_agents(seen, finished, agents.late_return, over_devices)
        key, levels_key = jax.random.split(state.key)
        levels, agents, about = lives.go_on(
            levels_key, state.curriculum, theta, hypers, agents, judged, finished
        )
        metrics |= about | {"grad_norm": norm}
        return State(theta, opt_state, agents, levels, state.task, key, state.step + 1), metrics

    def act(*_: Any):
        raise NotImplementedError("a meta-learner does not act: test what it learned on an agent")

    def partition() -> State:
        everywhere, over_agents = PartitionSpec(), PartitionSpec(axis_name)
        return State(*[everywhere] * 2, over_agents, *[everywhere] * 4)

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
            part_name(inner.config), *inner.made_of, *map(part_name, (insert, sample_lifetime)),
            curriculum.name, *(assessment.made_of if assessment else ()),
        ),
    )  # fmt: skip
