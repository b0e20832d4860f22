"""Meta-gradients: learn hyperparameters through the updates they govern (Xu et al. 2018).

Agents train side by side, each on a level of its own, in one world or in several. In one meta-step
every agent makes K updates and then collects experience once more. The agent's meta-loss is the
policy-gradient loss of its updated policy on that experience; it is differentiated through the K
updates with respect to the meta-parameters θ (`agent_gradient.py`). Agents whose life is over are
replaced, on levels that their world's curriculum chooses. The meta-learner is an `Algorithm` too.

The inner algorithm can be any with a `log_prob`. `insert` says which of its hyperparameters θ
stands for: a rule (LPG), or PPO's learning rate, entropy bonus and discount.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec

from purejaxrl.algorithm import AgentsLayout, Algorithm, Metrics, Task
from purejaxrl.identity import part_name
from purejaxrl.meta.agent_gradient import Advanced, sum_gradients
from purejaxrl.meta.agents import AgentSetup, WorldState, check_setup, init_world, replace_finished
from purejaxrl.meta.base import (
    InitTheta,
    Insert,
    collect_nothing,
    count_lost_steps,
    nan_if_diverged,
)
from purejaxrl.meta.metrics import smooth_return, summarize_agents
from purejaxrl.meta.sharding import AXIS, sum_over_shards
from purejaxrl.meta.worlds import World, check_worlds, divide, hypers_in, join_metrics
from purejaxrl.validation import hyper, require_count, require_hypers

SUMMED = ("env_steps", "episodes", "lives_ended", "unsound")
"""Metrics that are added up over worlds; the others are averaged."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

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
        require_count(self, "num_agents", "num_updates")
        if self.group is not None:
            require_count(self, "group")


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced.

    Where worlds differ, `agent`, `critic_learning_rate`, `curriculum` and `antagonist` are
    `{world's name: value}`.
    """

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
    """The state of a meta-learner."""

    params: Any  # θ
    opt_state: Any
    worlds: tuple[WorldState, ...]
    task: Task
    key: jax.Array
    step: jax.Array  # int32, meta-steps done
    lost_steps: jax.Array  # int32, meta-steps in a row without one sound agent


def make(
    config: Config, worlds: World | Sequence[World], *, init_theta: InitTheta, insert: Insert
) -> Algorithm:
    """Make a meta-gradient learner over the hyperparameters of agents in one world or in several.

    `run` shards the agents of every world over all devices; outside of `run`, one device has all of
    them. It has diverged, and `run` freezes it, when θ or its gradient is not finite, or when no
    agent was sound in several meta-steps in a row (`base.PATIENCE`).

    Args:
        config: static settings.
        worlds: where the agents live. Their inner algorithms have a `log_prob`.
        init_theta: draws θ.
        insert: puts θ into the agents' hyperparameters.

    Raises:
        ValueError: if the parts of a world do not fit each other, a life is shorter than one
            update, or the agents cannot be divided among the worlds.
    """
    worlds = check_worlds(worlds)
    setups = [AgentSetup(world, insert) for world in worlds]
    counts = divide("num_agents", config.num_agents, worlds)
    for setup, count in zip(setups, counts, strict=True):
        check_setup(setup, count)
    everywhere, of_world = PartitionSpec(), WorldState(PartitionSpec(AXIS), PartitionSpec())
    partition = State(*[everywhere] * 2, (of_world,) * len(worlds), *[everywhere] * 4)
    return Algorithm(
        config,
        partial(init, setups, counts, init_theta),
        collect_nothing,
        partial(learn, config, setups),
        policy=lambda state: state.params,
        vital=vital,
        agents=AgentsLayout(partition, math.gcd(*counts)),
        made_of=(
            *map(part_name, (init_theta, insert)),
            *(name for world in worlds for name in world.made_of),
        ),
    )


def meta_optimizer(hypers: Hypers) -> optax.GradientTransformation:
    """Make the optimizer of θ."""
    return optax.adam(hypers.learning_rate)


def init(
    setups: Sequence[AgentSetup],
    counts: Sequence[int],
    init_theta: InitTheta,
    key: jax.Array,
    hypers: Hypers,
    task: Task,
) -> State:
    """Draw θ, and begin the lives of all agents."""
    require_hypers(hypers, Hypers)
    theta_key, key, *world_keys = jax.random.split(key, 2 + len(setups))
    theta, worlds = init_theta(theta_key), []
    for setup, count, world_key in zip(setups, counts, world_keys, strict=True):
        own = hypers_in(setup.world, hypers)
        try:
            worlds.append(init_world(setup, world_key, theta, own, count))
        except ValueError as error:
            raise ValueError(f"world {setup.world.name!r}: {error}") from error
    opt_state = meta_optimizer(hypers).init(theta)
    return State(theta, opt_state, tuple(worlds), task, key, jnp.int32(0), jnp.int32(0))


def learn(
    config: Config, setups: Sequence[AgentSetup], state: State, hypers: Hypers, _: tuple
) -> tuple[State, Metrics]:
    """Take one meta-step: the agents' updates, a step of θ, and the replacement of agents."""
    own = [hypers_in(setup.world, hypers) for setup in setups]
    totals, advanced = zip(*(
        sum_gradients(config, setup, state.params, hypers, world.agents)
        for setup, hypers, world in zip(setups, own, state.worlds, strict=True)
    ), strict=True)  # fmt: skip
    num_sound = sum_over_shards(sum(one.metrics["sound"].sum() for one in advanced))
    total = sum_over_shards(jax.tree.map(lambda *x: sum(x), *totals))
    grads = jax.tree.map(lambda g: g / jnp.maximum(num_sound, 1), total)
    updates, opt_state = meta_optimizer(hypers).update(grads, state.opt_state, state.params)
    theta = optax.apply_updates(state.params, updates)

    key, *keys = jax.random.split(state.key, 1 + len(setups))
    worlds, metrics = zip(*(
        end_step(*args, theta)
        for args in zip(setups, keys, own, state.worlds, advanced, strict=True)
    ), strict=True)  # fmt: skip
    lost_steps = count_lost_steps(state.lost_steps, num_sound)
    state = State(theta, opt_state, worlds, state.task, key, state.step + 1, lost_steps)
    metrics = join_metrics([setup.world for setup in setups], metrics, SUMMED)
    return state, metrics | {"grad_norm": optax.global_norm(grads)}


def end_step(
    setup: AgentSetup,
    key: jax.Array,
    hypers: Hypers,
    state: WorldState,
    advanced: Advanced,
    theta: Any,
) -> tuple[WorldState, Metrics]:
    """Summarise what happened in a world, and replace the agents whose life is over."""
    agents, estimates, metrics = advanced
    agents = agents._replace(late_return=smooth_return(agents.late_return, metrics))
    sound = metrics["sound"]
    over = (agents.state.step >= agents.state.task.horizon) & sound
    finished = over | ~sound
    means = setup.world.inner.episode_means
    metrics = summarize_agents(metrics, over, agents.late_return, means)
    state, level_metrics = replace_finished(
        setup, key, state._replace(agents=agents), theta, hypers, estimates, finished, sound
    )
    return state, metrics | level_metrics


def vital(state: State, metrics: Metrics) -> tuple:
    """Return what is finite as long as the meta-learner has not diverged."""
    return state.params, metrics["grad_norm"], nan_if_diverged(state.lost_steps)
