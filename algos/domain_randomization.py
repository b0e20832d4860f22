"""Domain randomisation (Tobin et al. 2017, arXiv 1703.06907): new random levels at every update.

The baseline of all curricula. The student is an algorithm such as PPO in an `OwnLevel` environment:
each of its environments is on a level of its own for one rollout.
"""

from typing import Any, NamedTuple

import jax

from purejaxrl.algorithm import Algorithm, Metrics, Task, require_fit
from purejaxrl.identity import part_name
from purejaxrl.ued.curriculum import SampleLevel
from purejaxrl.ued.student import OwnLevel, move_to_levels


class State(NamedTuple):
    """A student, and the key that draws its levels."""

    student: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done

    @property
    def params(self) -> Any:
        """The student's parameters."""
        return self.student.params


def make(student: Algorithm, env: OwnLevel, sample_level: SampleLevel) -> Algorithm:
    """Make a learner that trains a student on new random levels.

    Args:
        student: the algorithm that learns, made with `env`.
        env: the environment; its states hold their levels.
        sample_level: draws a level.
    """

    require_fit("student", student, "a curriculum of levels", "num_envs")

    def init(key: jax.Array, hypers: Any, task: Task) -> State:
        student_key, level_key, key = jax.random.split(key, 3)
        after = student.init(student_key, hypers, Task(sample_level(level_key), task.horizon))
        return State(after, task, key, after.step)

    def collect(state: State, hypers: Any) -> tuple[State, Any]:
        key, levels_key, reset_key = jax.random.split(state.key, 3)
        keys = jax.random.split(levels_key, student.num_envs)
        after = move_to_levels(reset_key, state.student, env, jax.vmap(sample_level)(keys))
        after = after._replace(task=after.task._replace(horizon=state.task.horizon))
        after, trajectory = student.collect(after, hypers)
        return state._replace(student=after, key=key), trajectory

    def learn(state: State, hypers: Any, trajectory: Any) -> tuple[State, Metrics]:
        after, metrics = student.learn(state.student, hypers, trajectory)
        return state._replace(student=after, step=state.step + 1), metrics

    return Algorithm(
        student.config,
        init,
        collect,
        learn,
        policy=lambda state: student.policy(state.student),
        act=student.act,
        memory=student.memory,
        steps_per_update=student.steps_per_update,
        in_place=tuple(f"student.{path}" for path in student.in_place),
        made_of=(*student.made_of, part_name(env), part_name(sample_level)),
    )
