"""A student: an agent that trains on the levels of a curriculum, one in each of its environments.

`OwnLevel` keeps the level in the environment's state. So an algorithm that was written for one
level, as all of `algos/` are, trains on as many levels as it has environments, unchanged. One
update of a student is:

    the curriculum draws levels, of which it may first play some
    begin an episode on each, and collect experience
    score the levels, if the curriculum has a score, and report them to it
    learn from the experience, unless the levels were only explored
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.algorithm import (
    Algorithm,
    Metrics,
    Task,
    missing,
    require_fit,
    require_one_step_returns,
)
from purejaxrl.identity import part_name, part_names
from purejaxrl.parts import rollout
from purejaxrl.parts.branches import compute_if
from purejaxrl.parts.normalize import restart_returns
from purejaxrl.parts.returns import Episode
from purejaxrl.parts.rollout import Experience, Interaction
from purejaxrl.parts.wrappers import Wrapper
from purejaxrl.ued.buffer import Visits
from purejaxrl.ued.curriculum import (
    Curriculum,
    Draw,
    check_curriculum_hypers,
    require_curriculum,
)
from purejaxrl.ued.scores import (
    LevelOutcome,
    OptimalReturn,
    episode_returns,
    fields_read,
    of_finished_episodes,
    score_each,
)
from purejaxrl.validation import require_hypers


@struct.dataclass
class LevelState:
    """The state of the environment inside, and its level."""

    inner: Any
    level: Any


class OwnLevel(Wrapper):
    """An environment whose state holds its level; it must be the outermost wrapper.

    `reset` takes its level from `params`. `step` uses the level in the state and ignores `params`.
    """

    def step(self, key: jax.Array, state: LevelState, action: jax.Array, params: Any = None):
        """Step with the auto-reset of the environment inside, on the state's level."""
        obs, inner, *rest = self._env.step(key, state.inner, action, state.level)
        return obs, state.replace(inner=inner), *rest

    def step_env(self, key: jax.Array, state: LevelState, action: jax.Array, params: Any):
        """Step without auto-reset, on the state's level."""
        obs, inner, *rest = self._env.step_env(key, state.inner, action, state.level)
        return obs, state.replace(inner=inner), *rest

    def reset_env(self, key: jax.Array, params: Any):
        """Begin an episode on the level `params`, and keep it in the state."""
        obs, inner = self._env.reset_env(key, params)
        return obs, LevelState(inner, params)

    def restart(self, state: LevelState, params: Any):
        """Begin the next episode on the same level."""
        obs, inner = self._env.restart(state.inner, state.level)
        return obs, state.replace(inner=inner)

    def is_truncated(self, state: LevelState, params: Any) -> jax.Array:
        """Whether the level's time limit was reached."""
        return self._env.is_truncated(state.inner, state.level)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    agent: Any = None
    """The agent's hyperparameters."""
    curriculum: Any = None
    """The curriculum's hyperparameters, if it has any."""


class State(NamedTuple):
    """An agent and its curriculum."""

    agent: Any
    curriculum: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done, with and without learning

    @property
    def params(self) -> Any:
        """The agent's parameters."""
        return self.agent.params


class Extras(NamedTuple):
    """What a student adds to the agent's experience."""

    agent: Any  # what the agent adds
    draw: Draw  # the levels, leaves [num_envs, ...]


class Setup(NamedTuple):
    """What a student is made of: the arguments of `make` by the same names."""

    agent: Algorithm
    env: OwnLevel
    curriculum: Curriculum
    optimal_return: OptimalReturn | None = None


def make(
    agent: Algorithm,
    env: OwnLevel,
    curriculum: Curriculum,
    optimal_return: OptimalReturn | None = None,
) -> Algorithm:
    """Make a student.

    Args:
        agent: the algorithm that learns, made with `env`, such as PPO.
        env: the environment; its states hold their levels.
        curriculum: chooses the levels.
        optimal_return: optimum of a level, for scores that compare the student with it.

    Raises:
        ValueError: if the parts do not fit each other.
    """
    setup = Setup(agent, env, curriculum, optimal_return)
    check_setup(setup)
    return Algorithm(
        agent.config,
        partial(init, setup),
        partial(collect, setup),
        partial(learn, setup),
        policy=lambda state: agent.policy(state.agent),
        act=agent.act,
        memory=agent.memory,
        vital=partial(vital, setup),
        steps_per_update=None if curriculum.extra_steps else agent.steps_per_update,
        warmup_steps=agent.warmup_steps,
        in_place=tuple(f"agent.{path}" for path in agent.in_place),
        episode_means=agent.episode_means,
        made_of=(*agent.made_of, *part_names(env, curriculum, optimal_return)),
    )


def check_setup(setup: Setup) -> None:
    """Raise a ValueError unless the parts fit each other."""
    agent, env, curriculum, optimal_return = setup
    if not isinstance(env, OwnLevel):
        raise ValueError(
            f"env: {type(env).__name__} is not valid; it must be an OwnLevel, in which every "
            "environment has a level of its own"
        )
    require_fit("agent", agent, "a curriculum of levels", "num_envs")
    require_one_step_returns("agent", agent, "a curriculum moves it to other levels")
    if curriculum.plays:
        require_fit("agent", agent, "a curriculum that plays levels", "act")
    if curriculum.teaches is not None and agent.warmup_steps:
        raise ValueError(
            f"agent: {type(agent.config).__module__} is not valid; a teacher has no level for the "
            f"{agent.warmup_steps} steps with which it fills its replay buffer"
        )
    if curriculum.explores:
        require_fit("agent", agent, "a curriculum that explores", "steps_per_update")
        if agent.in_place:
            raise ValueError(
                f"agent: {type(agent.config).__module__} is not valid; a curriculum that explores "
                f"levels without learning cannot roll back {', '.join(agent.in_place)}, which "
                "is written in place"
            )
    provided = {"returns", "best_return", "advantage", "value"}
    if optimal_return:
        provided.add("optimal_return")
    require_curriculum(
        curriculum, "a student", agent.num_envs, provided, explores=True, plays=True, teaches=True
    )
    read = fields_read(curriculum.score) if curriculum.score else set()
    if read & {"advantage", "value"}:
        require_fit("agent", agent, f"the score {part_name(curriculum.score)}", "estimate")
    if {"best_return", "value"} <= read and getattr(agent.config, "normalize_reward", False):
        raise ValueError(
            f"agent: normalize_reward=True is not valid; the score {part_name(curriculum.score)} "
            "compares values with returns, and values of scaled rewards are in other units"
        )


def init(setup: Setup, key: jax.Array, hypers: Hypers, task: Task) -> State:
    """Make the agent, and the curriculum's state."""
    agent, curriculum = setup.agent, setup.curriculum
    require_hypers(hypers, Hypers)
    check_curriculum_hypers(curriculum, hypers)
    agent_key, level_key, key, curriculum_key = jax.random.split(key, 4)
    level = curriculum.sample_level(level_key)
    return State(
        agent.init(agent_key, hypers.agent, Task(level, task.horizon)),
        curriculum.init(curriculum_key, hypers.curriculum, agent.num_envs),
        task,
        key,
        jnp.int32(0),
    )


def collect(setup: Setup, state: State, hypers: Hypers) -> tuple[State, Experience]:
    """Draw levels, and act on them."""
    key, levels_key, reset_key = jax.random.split(state.key, 3)
    task = state.agent.task._replace(horizon=state.task.horizon)
    agent = state.agent._replace(task=task, step=state.step)  # it also anneals while it explores
    wanted = jnp.ones(setup.agent.num_envs, bool)
    curriculum = setup.curriculum.with_horizon(state.curriculum, state.task.horizon)
    curriculum, draw = setup.curriculum.sample(
        levels_key, curriculum, hypers.curriculum, wanted, partial(play, setup, agent)
    )
    agent = move_to_levels(reset_key, agent, setup.env, draw.chosen.level)
    agent, experience = setup.agent.collect(agent, hypers.agent)
    experience = experience._replace(extras=Extras(experience.extras, draw))
    return state._replace(agent=agent, curriculum=curriculum, key=key), experience


def learn(
    setup: Setup, state: State, hypers: Hypers, experience: Experience
) -> tuple[State, Metrics]:
    """Score the levels, then learn."""
    curriculum, key, of_levels = state.curriculum, state.key, {}
    draw = experience.extras.draw
    experience = experience._replace(extras=experience.extras.agent)
    if setup.curriculum.score:
        key, score_key = jax.random.split(key)
        visits = score_levels(setup, score_key, state.agent, hypers.agent, experience, draw)
        curriculum = setup.curriculum.report(curriculum, hypers.curriculum, visits)
        known = jnp.isfinite(visits.score)
        of_levels["score"] = jnp.nanmean(jnp.where(known, visits.score, jnp.nan))
    agent, metrics = learn_or_not(setup, state.agent, hypers.agent, experience, draw.learns)
    metrics |= of_levels | setup.curriculum.metrics(curriculum)
    metrics["env_steps"] += draw.env_steps
    agent = agent._replace(step=state.step + 1)
    return State(agent, curriculum, state.task, key, state.step + 1), metrics


def learn_or_not(
    setup: Setup, agent: Any, hypers: Any, experience: Experience, learns: jax.Array
) -> tuple[Any, Metrics]:
    """Learn where `learns`; metrics of an update without learning are NaN, integers 0."""
    if not setup.curriculum.explores:
        return setup.agent.learn(agent, hypers, experience)

    _, shapes = jax.eval_shape(setup.agent.learn, agent, hypers, experience)
    known = {name: experience.episodes.get(name, missing(x)) for name, x in shapes.items()}
    after, metrics = compute_if(
        learns, lambda agent: setup.agent.learn(agent, hypers, experience), agent, (agent, known)
    )
    return after, metrics | {
        "env_steps": jnp.int32(setup.agent.steps_per_update),
        "learned": learns.astype(jnp.float32),
    }


def vital(setup: Setup, state: State, metrics: Metrics) -> tuple[Any, Any]:
    """Return what must stay finite: the agent's leaves and the curriculum's.

    The losses of an update without learning are NaN, and are ignored.
    """
    if setup.curriculum.explores:
        learned = metrics["learned"] > 0
        metrics = {name: jnp.where(learned, x, 0) for name, x in metrics.items()}
    return setup.agent.vital(state.agent, metrics), setup.curriculum.vital(state.curriculum)


def score_levels(
    setup: Setup, key: jax.Array, agent: Any, hypers: Any, experience: Experience, draw: Draw
) -> Visits:
    """Score the levels by the agent's experience on them, before it learns."""
    seen, chosen = experience.transitions, draw.chosen
    done = seen.terminated | seen.truncated
    returns = episode_returns(seen.reward, done)
    outcomes = compare_returns(setup, returns, chosen.level, chosen.best_return)
    if setup.agent.estimate:
        found = of_finished_episodes(setup.agent.estimate(agent, hypers, experience), done)
        outcomes = outcomes._replace(advantage=found.advantage, value=found.value)
    scores = score_each(setup.curriculum.score, key, outcomes)
    finished = jnp.ones(setup.agent.num_envs, bool)
    return Visits(chosen.slot, chosen.level, scores, outcomes.best_return, finished, draw.lesson)


def compare_returns(
    setup: Setup, returns: jax.Array, levels: Any, best_return: jax.Array
) -> LevelOutcome:
    """Join returns `[T, n]` with the highest known ones and, where available, the optimal ones."""
    best = jnp.fmax(best_return, jnp.nanmax(returns, axis=0))  # -inf: no episode has finished yet
    optimum = jax.vmap(setup.optimal_return)(levels) if setup.optimal_return else None
    return LevelOutcome(returns, best, optimal_return=optimum)


def play(setup: Setup, agent: Any, key: jax.Array, levels: Any, num_steps: int) -> LevelOutcome:
    """Run an agent's policy on levels `[m, ...]` without learning: a `curriculum.Play`."""
    reset_key, key = jax.random.split(key)
    num_levels = jax.tree.leaves(levels)[0].shape[0]
    act = rollout.sampled(setup.agent.act, setup.agent.policy(agent))
    start = start_on_levels(reset_key, setup.env, levels, setup.agent.memory(num_levels))
    _, played = rollout.collect(key, setup.env, (), start, act, num_steps, 1.0)
    seen = played.transitions
    returns = episode_returns(seen.reward, seen.terminated | seen.truncated)
    return compare_returns(setup, returns, levels, jnp.float32(-jnp.inf))


def start_on_levels(key: jax.Array, env: OwnLevel, levels: Any, memory: Any) -> Interaction:
    """Begin an episode on each of the levels `[n, ...]`."""
    num_levels = jax.tree.leaves(levels)[0].shape[0]
    obs, env_state = jax.vmap(env.reset)(jax.random.split(key, num_levels), levels)
    first = jnp.ones(num_levels, bool)
    return Interaction(env_state, obs, first, memory, Episode.start(num_levels))


def move_to_levels(key: jax.Array, agent: Any, env: OwnLevel, levels: Any) -> Any:
    """Begin an episode on a new level in each of an agent's environments.

    Args:
        key: typed key.
        agent: its state.
        env: the environment it was made with.
        levels: leaves `[num_envs, ...]`.

    Returns:
        The agent's state. Its memory is reset by `first`, and the discounted returns of its reward
        scale are those of the new episodes.
    """
    start = start_on_levels(key, env, levels, agent.interaction.memory)
    return restart_returns(agent)._replace(interaction=start)
