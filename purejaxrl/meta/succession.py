"""The succession of agents: where lives begin, are scored, and give way to others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.meta import critic as critics
from purejaxrl.meta.assessment import Assessment, assess
from purejaxrl.meta.critic import Critic
from purejaxrl.meta.lifetime import for_finished, replace_each, staggered
from purejaxrl.meta.metrics import mean_over
from purejaxrl.parts.returns import Estimates
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.curriculum import Curriculum, Draw


class Agent(NamedTuple):
    """An agent, and what lives with it."""

    state: Any
    critic: Critic
    antagonist: Any  # on the same level; () without one
    slot: jax.Array  # int32, where in the curriculum its level is from
    best_return: jax.Array  # float32, the highest known on its level when it began
    late_return: jax.Array  # return of its episodes, by exponential average; NaN before any


class Succession(NamedTuple):
    """How agents come and go. `hypers` are the meta-learner's."""

    begin: Callable
    """(levels_key, agents_key, theta, hypers, num_agents) -> (curriculum's state, agents): the
    first ones, of staggered lives."""
    go_on: Callable
    """(key, curriculum's state, theta, hypers, agents, judged, finished) -> (curriculum's state,
    agents, metrics): on each device its own agents, the curriculum the same on all."""


def succession(
    inner: Algorithm,
    critic: nn.Module,
    insert: Callable,
    curriculum: Curriculum,
    sample_lifetime: Callable,
    assessment: Assessment | None,
    axis_name: str | None,
) -> Succession:
    """Make a succession; the arguments are those of `gradient.make`."""
    antagonist = assessment.antagonist if assessment else None
    if curriculum.reads_scores != (assessment is not None):
        raise ValueError("assessment: there must be one if, and only if, the curriculum reads it")
    if antagonist and antagonist.config.batch_size != inner.config.batch_size:
        raise ValueError(
            f"antagonist: {antagonist.config.batch_size} steps per update are not valid; it must "
            f"have as many interactions as the agent, {inner.config.batch_size}"
        )

    def everyones(tree: Any) -> Any:
        return jax.lax.all_gather(tree, axis_name, tiled=True) if axis_name else tree

    def own(tree: Any, count: int) -> Any:
        begin = jax.lax.axis_index(axis_name) * count if axis_name else 0
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, begin, count), tree)

    def born(key: jax.Array, theta: Any, hypers: Any, draw: Draw) -> Agent:
        life_key, state_key, critic_key, antagonist_key = jax.random.split(key, 4)
        task = Task(draw.levels, sample_lifetime(life_key))
        state = inner.init(state_key, insert(theta, hypers.agent), task)
        values = critics.start(critic, critic_key, state.obs, hypers.critic_learning_rate)
        rival = antagonist.init(antagonist_key, hypers.antagonist, task) if antagonist else ()
        return Agent(state, values, rival, draw.slot, draw.best_return, jnp.float32(jnp.nan))

    def begin(
        levels_key: jax.Array, agents_key: jax.Array, theta: Any, hypers: Any, num_agents: int
    ) -> tuple[Any, Agent]:
        levels, draws = curriculum.sample(
            levels_key, curriculum.init(), hypers.curriculum, jnp.ones(num_agents, bool)
        )

        def first(inputs: tuple[jax.Array, jax.Array, Draw]) -> Agent:
            agent_key, index, draw = inputs
            agent = born(agent_key, theta, hypers, draw)

            def stagger(state: Any) -> Any:
                horizon = staggered(state.task.horizon, index, num_agents)
                return state._replace(task=state.task._replace(horizon=horizon))

            rival = stagger(agent.antagonist) if antagonist else ()
            return agent._replace(state=stagger(agent.state), antagonist=rival)

        keys = jax.random.split(agents_key, num_agents)
        return levels, jax.lax.map(first, (keys, jnp.arange(num_agents), draws))

    def score(agents: Agent, judged: Estimates, finished: jax.Array) -> Visits:
        """What the agents made of their levels; of all devices."""

        def one(inputs: tuple[Agent, Estimates]):
            agent, judged = inputs
            key = jax.random.fold_in(agent.state.key, 1)
            return assess(
                key, assessment, inner, agent.state, agent.antagonist, judged, agent.best_return
            )

        scores, best = for_finished(one, (agents, judged), finished, assessment.slots)
        levels = agents.state.task.env_params
        return everyones(Visits(agents.slot, levels, scores, best, finished))

    def go_on(
        key: jax.Array, curriculum_state: Any, theta: Any, hypers: Any, agents: Agent,
        judged: Estimates, finished: jax.Array,
    ) -> tuple[Any, Agent, Metrics]:  # fmt: skip
        """Replace the agents whose life is over, on levels that the curriculum chooses."""
        metrics = {}
        if assessment:
            visits = score(agents, judged, finished)
            curriculum_state = curriculum.report(curriculum_state, visits)
            metrics["score"] = mean_over(visits.score, visits.over)
            metrics["replayed"] = mean_over(1.0 * (visits.slot != NOT_KEPT), visits.over)
        curriculum_state, draws = curriculum.sample(
            key, curriculum_state, hypers.curriculum, everyones(finished)
        )
        draws = own(draws, finished.shape[0])

        def successor(old: Agent, index: jax.Array) -> Agent:
            draw = jax.tree.map(lambda x: x[index], draws)
            return born(jax.random.fold_in(old.state.key, 0), theta, hypers, draw)

        agents = replace_each(agents, finished, successor)
        return curriculum_state, agents, metrics | curriculum.about(curriculum_state)

    return Succession(begin, go_on)
