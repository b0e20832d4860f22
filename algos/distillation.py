"""Distillation: regress a rule's network on another rule, on the experience of many agents.

The student is the network of LPG's rule, or of a fork's. The teacher is a hand-made rule
(`hand_rules.py`) or a learned one. Agents live in one world or in several. Some follow the
student and some the teacher, so that the student is also taught on states that it leads to itself
(DAgger: Ross et al. 2011, arXiv 1011.0686). In every step:

    every agent collects experience, and student and teacher read it
    the student moves towards the teacher's π̂ and ŷ
    every agent learns by the rule that it follows
    agents whose life is over are replaced, on new levels

All worlds have the same weight in the loss, whatever their share of the agents.

A distilled rule is where a meta-gradient or an evolution can start (`meta_lpg.start_from`).
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

from algos import lpg
from algos.lpg_rule import RuleInputs, Target
from purejaxrl.algorithm import AgentsLayout, Algorithm, Metrics, Task, is_finite
from purejaxrl.identity import part_name
from purejaxrl.meta.base import InitTheta, collect_nothing
from purejaxrl.meta.lifetime import replace_each, stagger_horizon
from purejaxrl.meta.sharding import AXIS, num_shards, sum_over_shards
from purejaxrl.meta.worlds import (
    World,
    check_worlds,
    divide,
    draw_hypers,
    hypers_in,
    join_metrics,
)
from purejaxrl.parts.divergences import kl_divergence
from purejaxrl.validation import hyper, require, require_count, require_hypers

LEAST_VARIANCE = 0.01
"""Added to the variance of an agent's π̂, by which its squared error is divided. Without it, tiny
errors of a π̂ that is nearly constant would dominate the loss."""
SUMMED = ("env_steps", "episodes")
"""Metrics that are added up over worlds; the others are averaged."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape. Static."""

    num_agents: int = 24
    """Agents that live side by side, in all worlds."""

    def __post_init__(self):
        require_count(self, "num_agents")


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    agent: Any = None
    """The agents' hyperparameters; `{world's name: value}` where worlds differ."""
    teacher: Any = None
    """The teacher's parameters."""
    learning_rate: float = hyper(2e-3, at_least=0)
    """Adam's step size at the start; it falls to zero along a cosine."""
    max_grad_norm: float = hyper(1.0, above=0, infinite=True)
    """Global norm to which the gradient is clipped."""
    by_student: float = hyper(0.5, at_least=0, at_most=1)
    """Fraction of the agents that follow the student."""


class Advice(NamedTuple):
    """The parameters of `Either`."""

    student: Any
    teacher: Any
    by_student: jax.Array  # bool []


@dataclass(frozen=True)
class Either:
    """The rule of an agent that follows the student or the teacher."""

    student: Any
    teacher: Any

    def apply(self, params: Advice, x: RuleInputs) -> Target:
        """Compute the targets of the rule that is followed."""
        student = self.student.apply(params.student, x)
        teacher = self.teacher.apply(params.teacher, x)
        return jax.tree.map(partial(jnp.where, params.by_student), student, teacher)


class Agent(NamedTuple):
    """An agent on its level."""

    state: lpg.State
    hypers: lpg.Hypers
    by_student: jax.Array  # bool


class State(NamedTuple):
    """The state of a distillation."""

    params: Any  # the student's
    opt_state: Any
    agents: tuple[Agent, ...]  # one for each world, leaves [n, ...]
    task: Task
    key: jax.Array
    step: jax.Array  # int32, steps done


class Setup(NamedTuple):
    """A world, and what its agents are made of."""

    world: World
    rule: Either
    networks: lpg.Networks
    agent: Algorithm
    num_agents: int


def make(
    config: Config,
    student: lpg.Config,
    teacher: Any,
    worlds: World | Sequence[World],
    init_theta: InitTheta | None = None,
) -> Algorithm:
    """Make a distillation.

    Args:
        config: static settings.
        student: static settings of the student; another algorithm's if it has LPG's fields.
        teacher: has `apply(hypers.teacher, RuleInputs) -> Target`.
        worlds: where agents live; their inner algorithm is LPG's or a fork's.
        init_theta: draws the student's first parameters; those of `student` by default.

    Raises:
        ValueError: if the agents cannot be divided among the worlds, a world's predictions are not
            as many as the student's, or it has a curriculum by scores or a torso of its own.
    """
    worlds = check_worlds(worlds)
    setups = []
    for world, count in zip(worlds, divide("num_agents", config.num_agents, worlds), strict=True):
        settings, rule = world.inner.config, Either(student.make_rule(), teacher)
        if settings.num_predictions != student.num_predictions:
            raise ValueError(
                f"num_predictions of world {world.name!r}: {settings.num_predictions} is not "
                f"valid; it must be {student.num_predictions}, the student's"
            )
        if world.curriculum.score or world.inner.made_of != lpg.make(settings, world.env).made_of:
            raise ValueError(
                f"world {world.name!r} is not valid; in a distillation its levels must be new "
                "ones, and its agents must have the torso that their config names"
            )
        nets = lpg.make_networks(settings, world.env)
        setups.append(Setup(world, rule, nets, lpg.make(settings, world.env, rule), count))
    init_theta = init_theta or partial(lpg.init_rule, config=student)
    everywhere, agents = PartitionSpec(), (PartitionSpec(AXIS),) * len(worlds)
    return Algorithm(
        config,
        partial(init, setups, init_theta),
        collect_nothing,
        partial(learn, setups),
        policy=lambda state: state.params,
        agents=AgentsLayout(
            State(*[everywhere] * 2, agents, *[everywhere] * 3),
            math.gcd(*(setup.num_agents for setup in setups)),
        ),
        made_of=(
            *map(part_name, (student, teacher, init_theta)),
            *(name for world in worlds for name in world.made_of),
        ),
    )


def optimizer(hypers: Hypers, task: Task) -> optax.GradientTransformation:
    """Make the student's optimizer."""

    def rate(step: jax.Array) -> jax.Array:
        done = jnp.minimum(step / task.horizon, 1.0)
        return hypers.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * done))

    return optax.chain(optax.clip_by_global_norm(hypers.max_grad_norm), optax.adam(rate))


def init(
    setups: Sequence[Setup], init_theta: InitTheta, key: jax.Array, hypers: Hypers, task: Task
):
    """Draw the student, and begin all lives; these first lives are cut short."""
    require_hypers(hypers, Hypers)
    theta_key, key, *world_keys = jax.random.split(key, 2 + len(setups))
    theta, agents = init_theta(theta_key), []
    for setup, world_key in zip(setups, world_keys, strict=True):
        own = hypers_in(setup.world, hypers)
        require(own.agent is not None, own, "agent", "the hyperparameters of the agents")

        def begin(inputs: tuple[jax.Array, jax.Array]) -> Agent:
            agent_key, index = inputs
            agent = init_agent(setup, agent_key, theta, own)  # noqa: B023
            task = agent.state.task
            horizon = stagger_horizon(task.horizon, index, setup.num_agents)  # noqa: B023
            return agent._replace(state=agent.state._replace(task=task._replace(horizon=horizon)))

        keys = jax.random.split(world_key, setup.num_agents)
        agents.append(jax.lax.map(begin, (keys, jnp.arange(setup.num_agents))))
    opt_state = optimizer(hypers, task).init(theta)
    return State(theta, opt_state, tuple(agents), task, key, jnp.int32(0))


def init_agent(setup: Setup, key: jax.Array, theta: Any, hypers: Hypers) -> Agent:
    """Begin a life on a new level."""
    level_key, life_key, vary_key, follow_key, key = jax.random.split(key, 5)
    world = setup.world
    own = draw_hypers(world.vary, vary_key, hypers.agent)
    by_student = jax.random.bernoulli(follow_key, hypers.by_student)
    task = Task(world.curriculum.sample_level(level_key), world.sample_lifetime(life_key))
    advice = Advice(theta, hypers.teacher, by_student)
    return Agent(setup.agent.init(key, own.replace(rule=advice), task), own, by_student)


def learn(setups: Sequence[Setup], state: State, hypers: Hypers, _: tuple) -> tuple[State, Metrics]:
    """Advance all agents, train the student, and replace the agents whose life is over."""
    theta, found = state.params, []
    own = [hypers_in(setup.world, hypers) for setup in setups]
    for setup, hypers_here, agents in zip(setups, own, state.agents, strict=True):
        found.append(advance_agents(setup, theta, hypers_here, agents))
    agents, inputs, metrics = zip(*found, strict=True)

    def loss(theta: Any) -> tuple[jax.Array, list[Metrics]]:
        errors = [
            compare(setup.rule, theta, hypers_here, x)
            for setup, hypers_here, x in zip(setups, own, inputs, strict=True)
        ]
        return sum(one["loss"] for one in errors) / len(errors), errors

    grads, errors = jax.grad(loss, has_aux=True)(theta)
    grads, errors = jax.tree.map(lambda x: x / num_shards(), sum_over_shards((grads, errors)))
    updates, opt_state = optimizer(hypers, state.task).update(grads, state.opt_state, theta)
    theta = optax.apply_updates(theta, updates)

    agents = tuple(
        replace_finished(setup, theta, hypers_here, those)
        for setup, hypers_here, those in zip(setups, own, agents, strict=True)
    )
    joined = [one | error for one, error in zip(metrics, errors, strict=True)]
    metrics = join_metrics([setup.world for setup in setups], joined, SUMMED)
    return State(theta, opt_state, agents, state.task, state.key, state.step + 1), metrics


def advance_agents(
    setup: Setup, theta: Any, hypers: Hypers, agents: Agent
) -> tuple[Agent, RuleInputs, Metrics]:
    """Make one update of a world's agents on this device; also return what the rules read."""

    def advance(agent: Agent) -> tuple[Agent, RuleInputs, Metrics]:
        advice = Advice(theta, hypers.teacher, agent.by_student)
        own = agent.hypers.replace(rule=advice)
        state, experience = setup.agent.collect(agent.state, own)
        x = lpg.rule_inputs(setup.networks, state, own, experience.transitions)
        state, metrics = setup.agent.learn(state, own, experience)
        return agent._replace(state=state), x, metrics

    agents, x, metrics = jax.vmap(advance)(agents)
    episodes = metrics["episodes"]
    total = jnp.where(episodes > 0, metrics["return"] * episodes, 0.0).sum()
    total, episodes, env_steps = sum_over_shards(
        (total, episodes.sum(), metrics["env_steps"].sum())
    )
    mean = jnp.where(episodes > 0, total / jnp.maximum(episodes, 1), jnp.nan)
    return agents, x, {"return": mean, "episodes": episodes, "env_steps": env_steps}


def compare(rule: Either, theta: Any, hypers: Hypers, x: RuleInputs) -> Metrics:
    """Compare student and teacher on what a world's agents read, leaves `[n, ...]`.

    Returns:
        `error`, the mean square of student's π̂ - teacher's; `variance`, that of the teacher's π̂
        within agents; `kl`, KL(teacher's ŷ ‖ student's); and `loss`. The fraction of π̂ that is
        unexplained is the mean error of many steps over their mean variance.
    """
    taught = jax.vmap(lambda x: rule.teacher.apply(hypers.teacher, x))(x)
    given = jax.vmap(lambda x: rule.student.apply(theta, x))(x)
    error = ((given.pi - taught.pi) ** 2).mean((1, 2))
    variance = taught.pi.var((1, 2))
    kl = kl_divergence(taught.log_y, given.log_y).mean()
    return {
        "error": error.mean(),
        "variance": variance.mean(),
        "kl": kl,
        "loss": (error / (variance + LEAST_VARIANCE)).mean() + kl,
    }


def replace_finished(setup: Setup, theta: Any, hypers: Hypers, agents: Agent) -> Agent:
    """Begin new lives in place of those that are over, and of agents that diverged."""
    is_over = agents.state.step >= agents.state.task.horizon
    finished = is_over | ~jax.vmap(is_finite)(agents.state.params)

    def replacement(old: Agent, index: jax.Array) -> Agent:
        return init_agent(setup, jax.random.fold_in(old.state.key, 0), theta, hypers)

    return replace_each(agents, finished, replacement)
