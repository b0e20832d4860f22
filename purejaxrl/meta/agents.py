"""The agents of a meta-learner: how they begin, how their levels are scored, who replaces them."""

from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import (
    Algorithm,
    Metrics,
    Task,
    replace_at,
    require_fit,
    require_one_step_returns,
)
from purejaxrl.meta import critic as critics
from purejaxrl.meta.assessment import assess
from purejaxrl.meta.base import Insert
from purejaxrl.meta.critic import CriticState
from purejaxrl.meta.lifetime import map_finished, replace_each, stagger_horizon
from purejaxrl.meta.metrics import masked_mean
from purejaxrl.meta.sharding import gather_agents, local_agents
from purejaxrl.meta.worlds import World, draw_hypers
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.curriculum import Chosen, check_curriculum_hypers, require_curriculum
from purejaxrl.validation import require


class Agent(NamedTuple):
    """An agent on its level, with its critic and its antagonist."""

    state: Any
    hypers: Any  # its own hyperparameters; () where all lives have the same
    critic: CriticState
    antagonist: Any  # its state, on the same level; () without one
    slot: jax.Array  # int32, the slot of its level in the curriculum's buffer, or NOT_KEPT
    best_return: jax.Array  # float32, the highest return known on its level when it began
    late_return: jax.Array  # exponential average of its episodes' returns; NaN before the first
    whole: jax.Array  # bool, whether its life has its full length: first lives are cut short


class WorldState(NamedTuple):
    """What happens in one world."""

    agents: Agent  # leaves [n, ...]
    curriculum: Any


class AgentSetup(NamedTuple):
    """What the agents of a world are made of."""

    world: World
    insert: Insert

    @property
    def antagonist(self) -> Algorithm | None:
        """The algorithm of the antagonists, if there are any."""
        return self.world.assessment.antagonist if self.world.assessment else None

    @property
    def in_place(self) -> tuple[str, ...]:
        """Fields of an `Agent` that are written in place."""
        of_antagonist = self.antagonist.in_place if self.antagonist else ()
        return *(f"state.{path}" for path in self.world.inner.in_place), *(
            f"antagonist.{path}" for path in of_antagonist
        )

    def hypers_of(self, agent: Agent, theta: Any, hypers: Any) -> Any:
        """Return the hyperparameters of an agent, with θ inserted; `hypers` are its world's."""
        return self.insert(theta, agent.hypers if self.world.vary else hypers.agent)


def without_in_place(setup: AgentSetup, agents: Agent) -> tuple[Agent, list]:
    """Separate the fields that are written in place from agents, for a loop to carry.

    A `scan` copies its inputs and outputs of each step, but can update its carry in place.
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
    """Raise a ValueError unless the parts of a world fit each other."""
    world, antagonist = setup.world, setup.antagonist
    inner, assessment = world.inner, world.assessment
    require_fit("inner", inner, "a meta-gradient", "num_envs", "steps_per_update", "log_prob")
    require_one_step_returns("inner", inner, "the last experience of a meta-step is not stored")
    if world.critic is None:
        raise ValueError("critic: None is not valid; a meta-gradient needs one in every world")
    if (world.curriculum.score is None) != (assessment is None):
        raise ValueError(
            "assessment: there must be one if, and only if, the curriculum has a score"
        )
    provided = assessment.provided if assessment else ()
    parts = {"antagonist_returns": "antagonists", "optimal_return": "`optimal_return`"}
    lacks = " and ".join(part for field, part in parts.items() if field not in provided)
    learner = f"a meta-gradient without {lacks}" if lacks else "a meta-gradient"
    require_curriculum(world.curriculum, learner, num_agents, provided)
    if antagonist and antagonist.steps_per_update != inner.steps_per_update:
        raise ValueError(
            f"antagonist: {antagonist.steps_per_update} steps per update are not valid; it must "
            f"have as many interactions as the agent, {inner.steps_per_update}"
        )


def init_agent(setup: AgentSetup, key: jax.Array, theta: Any, hypers: Any, chosen: Chosen) -> Agent:
    """Begin a life on a level that the curriculum chose; `hypers` are the meta-learner's."""
    world = setup.world
    life_key, state_key, critic_key, antagonist_key, vary_key = jax.random.split(key, 5)
    task = Task(chosen.level, world.sample_lifetime(life_key))
    own = draw_hypers(world.vary, vary_key, hypers.agent) if world.vary else ()
    agent_hypers = setup.insert(theta, own if world.vary else hypers.agent)
    state = world.inner.init(state_key, agent_hypers, task)
    critic = critics.init(
        world.critic, critic_key, state.interaction.obs, world.inner.num_envs,
        hypers.critic_learning_rate,
    )  # fmt: skip
    antagonist = ()
    if setup.antagonist:
        antagonist = setup.antagonist.init(antagonist_key, hypers.antagonist, task)
    return Agent(
        state, own, critic, antagonist, chosen.slot, chosen.best_return,
        late_return=jnp.float32(jnp.nan), whole=jnp.bool_(True),
    )  # fmt: skip


def init_world(
    setup: AgentSetup, key: jax.Array, theta: Any, hypers: Any, num_agents: int
) -> WorldState:
    """Begin all lives in a world; `stagger_horizon` cuts these first lives short.

    Raises:
        ValueError: if hyperparameters of the agents or of their antagonists are missing, or θ is
            not what the agents need.
    """
    curriculum = setup.world.curriculum
    require(hypers.agent is not None, hypers, "agent", "the inner algorithm's hyperparameters")
    complete = setup.antagonist is None or hypers.antagonist is not None
    require(complete, hypers, "antagonist", "the antagonist's hyperparameters")
    check_curriculum_hypers(curriculum, hypers)
    curriculum_key, levels_key, agents_key = jax.random.split(key, 3)
    curriculum_state = curriculum.init(curriculum_key, hypers.curriculum, num_agents)
    curriculum_state, draw = curriculum.sample(
        levels_key, curriculum_state, hypers.curriculum, jnp.ones(num_agents, bool), None
    )

    def init_staggered(inputs: tuple[jax.Array, jax.Array, Chosen]) -> Agent:
        agent_key, index, chosen = inputs
        agent = init_agent(setup, agent_key, theta, hypers, chosen)
        full = agent.state.task.horizon
        horizon = stagger_horizon(full, index, num_agents)

        def stagger(state: Any) -> Any:
            return state._replace(task=state.task._replace(horizon=horizon))

        antagonist = stagger(agent.antagonist) if setup.antagonist else ()
        return agent._replace(
            state=stagger(agent.state), antagonist=antagonist, whole=horizon == full
        )

    inputs = jax.random.split(agents_key, num_agents), jnp.arange(num_agents), draw.chosen
    return WorldState(jax.lax.map(init_staggered, inputs), curriculum_state)


def score_levels(
    setup: AgentSetup,
    agents: Agent,
    estimates: ValueEstimates,
    finished: jax.Array,
    sound: jax.Array,
) -> Visits:
    """Score the levels of the agents whose life is over, on all devices.

    A life that was cut short does not measure its level. After such a life, or one that diverged,
    the score is NaN, by which the curriculum learns that the level is no longer in use.
    """
    world, whole = setup.world, finished & agents.whole

    def score(inputs: tuple[Agent, ValueEstimates]) -> tuple[jax.Array, jax.Array]:
        agent, estimates = inputs
        return assess(jax.random.fold_in(agent.state.key, 1), world, agent, estimates)

    scores, best = map_finished(score, (agents, estimates), whole, world.assessment.slots)
    levels, scores = agents.state.task.env_params, jnp.where(sound & whole, scores, jnp.nan)
    return gather_agents(Visits(agents.slot, levels, scores, best, finished))


def replace_finished(
    setup: AgentSetup,
    key: jax.Array,
    state: WorldState,
    theta: Any,
    hypers: Any,
    estimates: ValueEstimates,
    finished: jax.Array,
    sound: jax.Array,
) -> tuple[WorldState, Metrics]:
    """Score the levels of finished agents, and begin new lives on levels of the curriculum.

    Args:
        setup: what agents are made of.
        key: typed key, the same on all devices.
        state: this device's agents, leaves `[n, ...]`; the curriculum is the same on all devices.
        theta: θ.
        hypers: the meta-learner's hyperparameters, as they are in this world.
        estimates: values and advantages of the agents' last experience.
        finished: bool `[n]`, whether an agent's life is over.
        sound: bool `[n]`, whether an agent has not diverged.

    Returns:
        The state, and metrics of the levels.
    """
    metrics, curriculum = {}, setup.world.curriculum
    agents, curriculum_state = state
    if setup.world.assessment:
        visits = score_levels(setup, agents, estimates, finished, sound)
        curriculum_state = curriculum.report(curriculum_state, hypers.curriculum, visits)
        known = visits.finished & jnp.isfinite(visits.score)
        metrics["score"] = masked_mean(visits.score, known)
        metrics["replayed"] = masked_mean(1.0 * (visits.slot != NOT_KEPT), visits.finished)
    curriculum_state, draw = curriculum.sample(
        key, curriculum_state, hypers.curriculum, gather_agents(finished), None
    )
    choices = local_agents(draw.chosen, finished.shape[0])

    def replacement(old: Agent, index: jax.Array) -> Agent:
        chosen = jax.tree.map(lambda x: x[index], choices)
        return init_agent(setup, jax.random.fold_in(old.state.key, 0), theta, hypers, chosen)

    agents = replace_each(agents, finished, replacement)
    return WorldState(agents, curriculum_state), metrics | curriculum.metrics(curriculum_state)
