"""A teacher that is paid true regret: by levels whose optimum and whose student are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo, regret_teacher
from envs.maze_solution import optimal_return
from purejaxrl.algorithm import Task
from purejaxrl.identity import is_named
from purejaxrl.ued import student as students
from tests.algos.test_paired import (
    BUILDER,
    ENV,
    KEY,
    NUM_ENVS,
    NUM_STEPS,
    RANDOM,
    RECORDING,
    STUDENT,
    TEACHER,
    episodes,
)

HYPERS = regret_teacher.hypers(ppo.Hypers(), ppo.Hypers())
TASK = Task((), jnp.int32(20))


def compose(agent=STUDENT, teacher=TEACHER):
    curriculum = regret_teacher.curriculum(teacher, BUILDER)
    return students.make(agent, ENV, curriculum, optimal_return)


def test_the_teacher_earns_the_optimum_less_the_mean_return_at_its_last_step():
    student = compose(RANDOM, RECORDING)
    state = jax.jit(lambda: student.init(KEY, HYPERS, TASK))()
    state, experience = jax.jit(lambda s: student.collect(s, HYPERS))(state)
    levels = state.curriculum.teacher.interaction.env_state.built
    optimum = np.asarray(jax.vmap(optimal_return)(levels))
    mean = [episodes(experience, i).mean() for i in range(NUM_ENVS)]
    after, metrics = jax.jit(lambda *x: student.learn(x[0], HYPERS, x[1]))(state, experience)
    reward = np.asarray(after.curriculum.teacher)
    assert reward.shape == (5, NUM_ENVS) and not reward[:-1].any()
    np.testing.assert_allclose(reward[-1], optimum - mean, atol=1e-6)
    assert optimum.max() > 0.5 and (reward[-1] >= 0).all() and np.ptp(reward[-1]) > 0
    assert metrics["regret"] == pytest.approx(np.mean(optimum - mean), abs=1e-6)


def test_both_learn_and_only_the_student_takes_steps():
    student = compose()
    before = jax.jit(lambda: student.init(KEY, HYPERS, TASK))()
    state, experience = jax.jit(lambda s: student.collect(s, HYPERS))(before)
    after, metrics = jax.jit(lambda *x: student.learn(x[0], HYPERS, x[1]))(state, experience)
    assert metrics["env_steps"] == NUM_ENVS * NUM_STEPS
    assert after.curriculum.teacher.task.horizon == 20 and after.curriculum.teacher.step == 1
    agents = lambda state: (state.agent, state.curriculum.teacher)  # noqa: E731
    for old, new in zip(agents(before), agents(after), strict=True):
        pairs = zip(*map(jax.tree.leaves, (old.params, new.params)), strict=True)
        assert any((x != y).any() for x, y in pairs)
    assert all(map(is_named, student.made_of))
    diverged = after.curriculum._replace(teacher=after.curriculum.teacher._replace(params=jnp.nan))
    vital = student.vital(after._replace(curriculum=diverged), metrics)
    assert any(np.isnan(x).any() for x in jax.tree.leaves(vital))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="teacher: algos.ppo .* needs its `estimate`"):
        regret_teacher.curriculum(TEACHER._replace(estimate=None), BUILDER)
    with pytest.raises(ValueError, match="builder: OwnLevel is not valid; it must be a Builder"):
        regret_teacher.curriculum(TEACHER, ENV)
    with pytest.raises(ValueError, match="optimal"):
        students.make(STUDENT, ENV, regret_teacher.curriculum(TEACHER, BUILDER))
