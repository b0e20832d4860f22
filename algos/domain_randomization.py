"""Domain randomisation (Tobin et al. 2017, arXiv 1703.06907): new random levels at every update.

What curricula have to beat. The student is an algorithm such as PPO in an `OwnLevel` environment:
a level in each of its environments, for one rollout.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.identity import part_name
from purejaxrl.ued.student import OwnLevel, send


class State(NamedTuple):
    """A student, and what it needs to draw levels."""

    student: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done

    @property
    def params(self) -> Any:
        """The student's."""
        return self.student.params


def make(student: Algorithm, env: OwnLevel, sample_level: Callable) -> Algorithm:
    """Domain randomisation.

    Args:
        student: the algorithm that learns, made with `env`.
        env: the environment, with a level of its own in each.
        sample_level: `(key) -> level`.
    """

    def init(key: jax.Array, hypers: Any, task: Task) -> State:
        student_key, level_key, key = jax.random.split(key, 3)
        pupil = student.init(student_key, hypers, Task(sample_level(level_key), task.horizon))
        return State(pupil, task, key, pupil.step)

    def collect(state: State, hypers: Any) -> tuple[State, Any]:
        key, levels_key, reset_key = jax.random.split(state.key, 3)
        keys = jax.random.split(levels_key, state.student.first.shape[0])
        pupil = send(reset_key, state.student, env, jax.vmap(sample_level)(keys))
        pupil = pupil._replace(task=pupil.task._replace(horizon=state.task.horizon))
        pupil, trajectory = student.collect(pupil, hypers)
        return state._replace(student=pupil, key=key), trajectory

    def learn(state: State, hypers: Any, trajectory: Any) -> tuple[State, Metrics]:
        pupil, metrics = student.learn(state.student, hypers, trajectory)
        return state._replace(student=pupil, step=state.step + 1), metrics

    return Algorithm(
        student.config,
        init,
        collect,
        learn,
        policy=lambda state: student.policy(state.student),
        act=student.act,
        memory=student.memory,
        made_of=(*student.made_of, part_name(sample_level)),
    )
