"""PAIRED: a teacher that learns to make levels (Dennis et al. 2020, arXiv 2012.02096).

The teacher builds a level for every environment of the student, the protagonist. A second student,
the antagonist, plays the same levels. The teacher's reward is the regret: the antagonist's return
minus the protagonist's. Levels that neither solves earn nothing. The default regret compares the
antagonist's best return with the protagonist's mean, so luck still earns the teacher a reward
on levels that both solve.

    the teacher builds levels                                  # an episode each, in a `Builder`
    both students play them
    the teacher's reward is the regret at its last step, which terminates, and 0 before
    all three learn

Three agents of any algorithm take part. `student.make(protagonist, env, paired.curriculum(...))` is
the whole algorithm.

Published code differs (tests/algos/test_paired.py has a test for each point). JaxUED by default
multiplies the random numbers that the teacher sees by 0, computes the mask of illegal edits without
applying it, and bootstraps from the value after the last edit. minimax takes the highest return to
be at least 0. It and DCD clip the regret at 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.algorithm import Algorithm, Metrics, Task, require_fit
from purejaxrl.identity import part_name
from purejaxrl.parts.rollout import Experience
from purejaxrl.ued import student
from purejaxrl.ued.buffer import Visits
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.curriculum import Curriculum, Draw, new_levels
from purejaxrl.ued.scores import LevelOutcome, episode_returns
from purejaxrl.ued.student import OwnLevel, move_to_levels


class Returns(NamedTuple):
    """A student's episodes on each level, float32 `[num_levels]`; NaN: none finished."""

    mean: jax.Array
    best: jax.Array


Regret = Callable[[Returns, Returns], jax.Array]
"""`(protagonist, antagonist) -> regret [num_levels]`."""


def mean_max(protagonist: Returns, antagonist: Returns) -> jax.Array:
    """Subtract the protagonist's mean return from the antagonist's best (PAIRED, section 5)."""
    return antagonist.best - protagonist.mean


def mean_mean(protagonist: Returns, antagonist: Returns) -> jax.Array:
    """Subtract the protagonist's mean return from the antagonist's."""
    return antagonist.mean - protagonist.mean


def flexible(protagonist: Returns, antagonist: Returns) -> jax.Array:
    """Let the student with the higher best return be the antagonist (as DCD does)."""
    return jnp.where(
        antagonist.best >= protagonist.best,
        antagonist.best - protagonist.mean,
        protagonist.best - antagonist.mean,
    )


REGRETS = {"mean-max": mean_max, "mean-mean": mean_mean, "flexible": flexible}
"""The regrets by their names on command lines."""


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    teacher: Any = None
    """The teacher's hyperparameters."""
    antagonist: Any = None
    """The antagonist's hyperparameters."""


class Summary(NamedTuple):
    """Means over the levels of the last update; NaN: there was none."""

    regret: jax.Array
    antagonist_return: jax.Array


class State(NamedTuple):
    """The two agents beside the protagonist."""

    teacher: Any
    antagonist: Any
    last: Summary


class Lesson(NamedTuple):
    """What the teacher and the antagonist experienced in the protagonist's update."""

    teacher: Experience
    antagonist: Experience


class Setup(NamedTuple):
    """What the curriculum is made of: the arguments of `curriculum` by the same names."""

    teacher: Algorithm
    antagonist: Algorithm
    env: OwnLevel
    builder: Builder
    regret: Regret


def hypers(agent: Any, teacher: Any) -> student.Hypers:
    """Return hyperparameters that are the same for both students."""
    return student.Hypers(agent, Hypers(teacher, agent))


def curriculum(
    teacher: Algorithm,
    antagonist: Algorithm,
    env: OwnLevel,
    builder: Builder,
    regret: Regret = mean_max,
) -> Curriculum:
    """Make the curriculum.

    Args:
        teacher: an agent made with `builder`, such as PPO, whose rollout is one level in each of
            its environments. It obeys the mask of illegal actions, if there is one.
        antagonist: an agent made with `env`, with as many environments.
        env: the protagonist's environment.
        builder: where levels are built.
        regret: computes the teacher's reward.

    Raises:
        ValueError: if the parts do not fit each other.
    """
    setup = Setup(teacher, antagonist, env, builder, regret)
    check_setup(setup)
    return Curriculum(
        partial(init, setup),
        partial(sample, setup),
        lambda key: builder.no_level(),
        partial(report, setup),
        metrics,
        score=mean_return,
        hypers=Hypers,
        teaches=teacher.num_envs,
        extra_steps=antagonist.steps_per_update,
        with_horizon=with_horizon,
        vital=lambda state: (state.teacher.params, state.antagonist.params),
    )


def check_setup(setup: Setup) -> None:
    """Raise a ValueError unless the parts fit each other."""
    check_teacher(setup.teacher, setup.builder)
    antagonist, count = setup.antagonist, setup.teacher.num_envs
    require_fit("antagonist", antagonist, "PAIRED", "num_envs", "steps_per_update")
    require_nothing_written("antagonist", antagonist)
    if antagonist.num_envs != count:
        raise ValueError(
            f"antagonist: {antagonist.num_envs} environments are not valid; it must have "
            f"{count}, one for each level of the teacher"
        )


def check_teacher(teacher: Algorithm, builder: Builder) -> None:
    """Raise a ValueError unless the teacher makes levels in the builder, one in a rollout."""
    if not isinstance(builder, Builder):
        raise ValueError(
            f"builder: {type(builder).__name__} is not valid; it must be a Builder, an environment "
            "whose episodes make levels"
        )
    require_fit("teacher", teacher, "PAIRED", "num_envs", "steps_per_update", "estimate")
    require_nothing_written("teacher", teacher)
    if part_name(builder) not in teacher.made_of:
        raise ValueError("teacher: it must be made with the builder, which it acts in")
    if getattr(teacher.config, "normalize_reward", False):
        raise ValueError(
            "teacher: normalize_reward=True is not valid; its rewards are paid after it has acted, "
            "so their scale is not known"
        )
    count, steps = teacher.num_envs, teacher.steps_per_update
    if steps != count * builder.num_steps:
        raise ValueError(
            f"teacher: {steps} steps per update are not valid; they must be {builder.num_steps}, "
            f"which a level takes, in each of its {count} environments"
        )


def require_nothing_written(name: str, algorithm: Algorithm) -> None:
    """Raise a ValueError if an agent writes to a buffer while it acts."""
    if algorithm.in_place:
        raise ValueError(
            f"{name}: {type(algorithm.config).__module__} is not valid; it writes "
            f"{', '.join(algorithm.in_place)} before the regret is known"
        )


def init(setup: Setup, key: jax.Array, hypers: Hypers, num_levels: int) -> State:
    """Make the teacher and the antagonist."""
    teacher_key, antagonist_key = jax.random.split(key)
    building, playing = setup.builder.default_params, setup.builder.no_level()
    return State(
        setup.teacher.init(teacher_key, hypers.teacher, Task(building, jnp.int32(1))),
        setup.antagonist.init(antagonist_key, hypers.antagonist, Task(playing, jnp.int32(1))),
        Summary(jnp.float32(jnp.nan), jnp.float32(jnp.nan)),
    )


def with_horizon(state: State, horizon: jax.Array) -> State:
    """Tell both agents how many updates they live."""
    told = lambda agent: agent._replace(task=agent.task._replace(horizon=horizon))  # noqa: E731
    return state._replace(teacher=told(state.teacher), antagonist=told(state.antagonist))


def sample(
    setup: Setup, key: jax.Array, state: State, hypers: Hypers, wanted: jax.Array, play: Any
) -> tuple[State, Draw]:
    """Build levels, and let the antagonist play them."""
    teacher, building = setup.teacher.collect(state.teacher, hypers.teacher)
    levels = teacher.interaction.env_state.built
    antagonist = move_to_levels(key, state.antagonist, setup.env, levels)
    antagonist, playing = setup.antagonist.collect(antagonist, hypers.antagonist)
    env_steps = jnp.int32(setup.antagonist.steps_per_update)
    draw = Draw(new_levels(levels), env_steps=env_steps, lesson=Lesson(building, playing))
    return state._replace(teacher=teacher, antagonist=antagonist), draw


def report(setup: Setup, state: State, hypers: Hypers, visits: Visits) -> State:
    """Reward the teacher, and let both agents learn. A visit's score is the mean return."""
    building, playing = visits.lesson
    protagonist = Returns(visits.score, visits.best_return)
    antagonist = returns_of(playing)
    regret = setup.regret(protagonist, antagonist)
    teacher, _ = setup.teacher.learn(state.teacher, hypers.teacher, pay(building, regret))
    learned, _ = setup.antagonist.learn(state.antagonist, hypers.antagonist, playing)
    return State(teacher, learned, Summary(jnp.nanmean(regret), jnp.nanmean(antagonist.mean)))


def mean_return(key: jax.Array, outcome: LevelOutcome) -> jax.Array:
    """Average the protagonist's returns: the score of a visit, from which regret is computed."""
    return jnp.nanmean(outcome.returns)


def returns_of(experience: Experience) -> Returns:
    """Return the mean and the best return of the episodes on each level."""
    seen = experience.transitions
    returns = episode_returns(seen.reward, seen.terminated | seen.truncated)
    return Returns(jnp.nanmean(returns, axis=0), jnp.nanmax(returns, axis=0))


def pay(experience: Experience, regret: jax.Array) -> Experience:
    """Make the regret of every level the reward of the step that finished it.

    Args:
        experience: the teacher's, leaves `[num_steps, num_levels, ...]`.
        regret: `[num_levels]`; NaN (a student finished no episode) becomes a reward of 0.
    """
    seen = experience.transitions
    regret = jnp.where(jnp.isfinite(regret), regret, 0.0)
    reward = jnp.where(seen.terminated, regret, 0.0)
    return experience._replace(transitions=seen._replace(reward=reward))


def metrics(state: State) -> Metrics:
    """Name the means over the levels of the last update."""
    return state.last._asdict()
