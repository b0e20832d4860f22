"""A teacher whose reward is the true regret of its levels: PAIRED against the optimum.

A fork of `paired.py` for levels whose optimal return can be computed. PAIRED's antagonist shows
only what a second student happens to do better, and takes half of the environment steps. Here
nothing plays a level but the student:

    the teacher builds levels                                  # an episode each, in a `Builder`
    the student plays them
    the teacher's reward at its last step is the optimal return minus the student's mean
    both learn

Levels without a solution earn nothing, as their optimal return is 0. As in `paired.py`, a teacher
builds a level step by step, or chooses a latent of `clutr.py`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from algos.paired import check_teacher, pay
from purejaxrl.algorithm import Algorithm, Task
from purejaxrl.ued import student
from purejaxrl.ued.buffer import Visits
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.curriculum import Curriculum, Draw, new_levels
from purejaxrl.ued.scores import true_regret


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    teacher: Any = None
    """The teacher's hyperparameters."""


class State(NamedTuple):
    """The teacher, and the mean regret of the last update's levels."""

    teacher: Any
    regret: jax.Array  # float32 []; NaN: there was none


class Setup(NamedTuple):
    """What the curriculum is made of: the arguments of `curriculum`."""

    teacher: Algorithm
    builder: Builder


def hypers(agent: Any, teacher: Any) -> student.Hypers:
    """Return hyperparameters of a student and its teacher."""
    return student.Hypers(agent, Hypers(teacher))


def curriculum(teacher: Algorithm, builder: Builder) -> Curriculum:
    """Make the curriculum.

    Args:
        teacher: an agent made with `builder`, as in `paired.curriculum`.
        builder: where levels are built.

    Raises:
        ValueError: if the two do not fit each other.
    """
    check_teacher(teacher, builder)
    setup = Setup(teacher, builder)
    return Curriculum(
        partial(init, setup),
        partial(sample, setup),
        lambda key: builder.no_level(),
        partial(report, setup),
        lambda state: {"regret": state.regret},
        score=true_regret,
        hypers=Hypers,
        teaches=teacher.num_envs,
        with_horizon=with_horizon,
        vital=lambda state: state.teacher.params,
    )


def init(setup: Setup, key: jax.Array, hypers: Hypers, num_levels: int) -> State:
    """Make the teacher."""
    task = Task(setup.builder.default_params, jnp.int32(1))
    return State(setup.teacher.init(key, hypers.teacher, task), jnp.float32(jnp.nan))


def with_horizon(state: State, horizon: jax.Array) -> State:
    """Tell the teacher how many updates it lives."""
    task = state.teacher.task._replace(horizon=horizon)
    return state._replace(teacher=state.teacher._replace(task=task))


def sample(
    setup: Setup, key: jax.Array, state: State, hypers: Hypers, wanted: jax.Array, play: Any
) -> tuple[State, Draw]:
    """Build levels."""
    teacher, building = setup.teacher.collect(state.teacher, hypers.teacher)
    levels = teacher.interaction.env_state.built
    return state._replace(teacher=teacher), Draw(new_levels(levels), lesson=building)


def report(setup: Setup, state: State, hypers: Hypers, visits: Visits) -> State:
    """Reward the teacher with the score of every visit, the true regret, and let it learn."""
    paid = pay(visits.lesson, visits.score)
    teacher, _ = setup.teacher.learn(state.teacher, hypers.teacher, paid)
    return State(teacher, jnp.nanmean(visits.score))
