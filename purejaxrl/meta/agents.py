"""The agents of a meta-learner: how they begin, how their levels are scored, who replaces them."""

from operator import attrgetter
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm, Metrics, Task, replace_at, require_fit
from purejaxrl.meta import critic as critics
from purejaxrl.meta.assessment import Assessment, assess
from purejaxrl.meta.base import Insert, SampleLifetime, check_lifetime
from purejaxrl.meta.critic import CriticState
from purejaxrl.meta.lifetime import map_finished, replace_each, stagger_horizon
from purejaxrl.meta.metrics import masked_mean
from purejaxrl.meta.sharding import gather_agents, local_agents
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.curriculum import (
    Chosen,
    Curriculum,
    check_curriculum_hypers,
    require_curriculum,
)
from purejaxrl.validation import require


class Agent(NamedTuple):
    """An agent on its level, with its critic and its antagonist."""

    state: Any
    critic: CriticState
    antagonist: Any  # its state, on the same level; () without one
    slot: jax.Array  # int32, the slot of its level in the curriculum's buffer, or NOT_KEPT
    best_return: jax.Array  # float32, the highest return known on its level when it began
    late_return: jax.Array  # exponential average of its episodes' returns; NaN before the first


class AgentSetup(NamedTuple):
    """What agents are made of: the arguments of `gradient.make` by the same names."""

    inner: Algorithm
    critic: nn.Module
    insert: Insert
    curriculum: Curriculum
    sample_lifetime: SampleLifetime
    assessment: Assessment | None

    @property
    def antagonist(self) -> Algorithm | None:
        """The algorithm of the antagonists, if there are any."""
        return self.assessment.antagonist if self.assessment else None

    @property
    def in_place(self) -> tuple[str, ...]:
        """Fields of an `Agent` that are written in place."""
        of_antagonist = self.antagonist.in_place if self.antagonist else ()
        return *(f"state.{path}" for path in self.inner.in_place), *(
            f"antagonist.{path}" for path in of_antagonist
        )


def without_in_place(setup: AgentSetup, agents: Agent) -> tuple[Agent, list]:
    """Take what is written in place out of agents, for a loop to carry.

    A `scan` copies what it takes and gives back step by step; what it carries stays in place.
    """
    written = [attrgetter(path)(agents) for path in setup.in_place]
    for path in setup.in_place:
        agents = replace_at(agents, path, ())
    return agents, written


def with_in_place(setup: AgentSetup, agents: Agent, written: list) -> Agent:
    """Undo `without_in_place`."""
    for path, value in zip(setup.in_place, written, strict=True):
        agents = replace_at(agents, path, value)
    return agents


def check_setup(setup: AgentSetup, num_agents: int) -> None:
    """Raise a ValueError unless the parts fit each other."""
    inner, antagonist, assessment = setup.inner, setup.antagonist, setup.assessment
    require_fit("inner", inner, "a meta-gradient", "num_envs", "steps_per_update", "log_prob")
    if (setup.curriculum.score is None) != (assessment is None):
        raise ValueError(
            "assessment: there must be one if, and only if, the curriculum has a score"
        )
    learner = "a meta-gradient" if antagonist else "a meta-gradient without antagonists"
    provided = assessment.provided if assessment else ()
    require_curriculum(setup.curriculum, learner, num_agents, provided)
    if antagonist and antagonist.steps_per_update != inner.steps_per_update:
        raise ValueError(
            f"antagonist: {antagonist.steps_per_update} steps per update are not valid; it must "
            f"have as many interactions as the agent, {inner.steps_per_update}"
        )
    check_lifetime(setup.sample_lifetime)


def init_agent(setup: AgentSetup, key: jax.Array, theta: Any, hypers: Any, chosen: Chosen) -> Agent:
    """Begin a life on a level that the curriculum chose; `hypers` are the meta-learner's."""
    life_key, state_key, critic_key, antagonist_key = jax.random.split(key, 4)
    task = Task(chosen.level, setup.sample_lifetime(life_key))
    state = setup.inner.init(state_key, setup.insert(theta, hypers.agent), task)
    obs = state.interaction.obs
    critic = critics.init(setup.critic, critic_key, obs, hypers.critic_learning_rate)
    antagonist = ()
    if setup.antagonist:
        antagonist = setup.antagonist.init(antagonist_key, hypers.antagonist, task)
    return Agent(state, critic, antagonist, chosen.slot, chosen.best_return, jnp.float32(jnp.nan))


def init_agents(
    setup: AgentSetup,
    curriculum_key: jax.Array,
    levels_key: jax.Array,
    agents_key: jax.Array,
    theta: Any,
    hypers: Any,
    num_agents: int,
) -> tuple[Any, Agent]:
    """Begin all lives, the first of them cut short by `stagger_horizon`.

    Returns:
        The curriculum's state, and the agents, leaves `[num_agents, ...]`.

    Raises:
        ValueError: if hyperparameters of the agents or of their antagonists are missing.
    """
    require(hypers.agent is not None, hypers, "agent", "the inner algorithm's hyperparameters")
    complete = setup.antagonist is None or hypers.antagonist is not None
    require(complete, hypers, "antagonist", "the antagonist's hyperparameters")
    check_curriculum_hypers(setup.curriculum, hypers)
    curriculum_state = setup.curriculum.init(curriculum_key, hypers.curriculum, num_agents)
    curriculum_state, draw = setup.curriculum.sample(
        levels_key, curriculum_state, hypers.curriculum, jnp.ones(num_agents, bool), None
    )

    def init_staggered(inputs: tuple[jax.Array, jax.Array, Chosen]) -> Agent:
        agent_key, index, chosen = inputs
        agent = init_agent(setup, agent_key, theta, hypers, chosen)

        def stagger(state: Any) -> Any:
            horizon = stagger_horizon(state.task.horizon, index, num_agents)
            return state._replace(task=state.task._replace(horizon=horizon))

        antagonist = stagger(agent.antagonist) if setup.antagonist else ()
        return agent._replace(state=stagger(agent.state), antagonist=antagonist)

    keys = jax.random.split(agents_key, num_agents)
    inputs = keys, jnp.arange(num_agents), draw.chosen
    return curriculum_state, jax.lax.map(init_staggered, inputs)


def score_levels(
    setup: AgentSetup, agents: Agent, estimates: ValueEstimates, finished: jax.Array
) -> Visits:
    """Score the levels of the agents whose life is over, on all devices."""

    def score(inputs: tuple[Agent, ValueEstimates]) -> tuple[jax.Array, jax.Array]:
        agent, estimates = inputs
        return assess(
            jax.random.fold_in(agent.state.key, 1), setup.curriculum.score, setup.assessment,
            setup.inner, agent.state, agent.antagonist, estimates, agent.best_return,
        )  # fmt: skip

    scores, best = map_finished(score, (agents, estimates), finished, setup.assessment.slots)
    levels = agents.state.task.env_params
    return gather_agents(Visits(agents.slot, levels, scores, best, finished))


def replace_finished(
    setup: AgentSetup,
    key: jax.Array,
    curriculum_state: Any,
    theta: Any,
    hypers: Any,
    agents: Agent,
    estimates: ValueEstimates,
    finished: jax.Array,
) -> tuple[Any, Agent, Metrics]:
    """Score the levels of finished agents, and begin new lives on levels of the curriculum.

    Args:
        setup: what agents are made of.
        key: typed key, the same on all devices.
        curriculum_state: the same on all devices.
        theta: θ.
        hypers: the meta-learner's.
        agents: this device's, leaves `[n, ...]`.
        estimates: values and advantages of their last experience.
        finished: bool `[n]`, whose life is over.

    Returns:
        The curriculum's state, this device's agents, and metrics of the levels.
    """
    metrics, curriculum = {}, setup.curriculum
    if setup.assessment:
        visits = score_levels(setup, agents, estimates, finished)
        curriculum_state = curriculum.report(curriculum_state, hypers.curriculum, visits)
        metrics["score"] = masked_mean(visits.score, visits.finished)
        metrics["replayed"] = masked_mean(1.0 * (visits.slot != NOT_KEPT), visits.finished)
    curriculum_state, draw = curriculum.sample(
        key, curriculum_state, hypers.curriculum, gather_agents(finished), None
    )
    choices = local_agents(draw.chosen, finished.shape[0])

    def replacement(old: Agent, index: jax.Array) -> Agent:
        chosen = jax.tree.map(lambda x: x[index], choices)
        return init_agent(setup, jax.random.fold_in(old.state.key, 0), theta, hypers, chosen)

    agents = replace_each(agents, finished, replacement)
    return curriculum_state, agents, metrics | curriculum.metrics(curriculum_state)
