"""Robust prioritised level replay (Jiang et al. 2021, arXiv 2110.02439), for any student.

In one update, a student either replays levels from a buffer and learns from them, or plays new
levels without learning from them: those only get a score, with which they may enter the buffer. So
the student learns only from levels that the scores selected (PLR⊥).

The student is an algorithm with an `estimate`, such as PPO, in an `OwnLevel` environment: each of
its environments is on a level of its own for one rollout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Algorithm, Metrics, Task, require_fit
from purejaxrl.identity import part_name
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued import curriculum as curricula
from purejaxrl.ued.buffer import Buffer, Visits
from purejaxrl.ued.curriculum import Draw, Replay, SampleLevel
from purejaxrl.ued.scores import LevelOutcome, Score, episode_returns, positive_value_loss
from purejaxrl.ued.student import OwnLevel, move_to_levels
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    capacity: int = 4000
    """Slots of the buffer, at least as many as the student has environments."""

    def __post_init__(self):
        require_count(self, "capacity")


class Hypers(struct.PyTreeNode):
    """What training can be vmapped or swept over. Traced."""

    student: Any = None
    """The student's hyperparameters."""
    replay: Replay = Replay(replay_prob=0.5, temperature=0.3, staleness=0.3, min_fill=0.5)
    """How levels are replayed."""


class Choice(NamedTuple):
    """The levels of one update."""

    draw: Draw  # leaves [num_envs, ...]
    learns: jax.Array  # bool []: the levels are replayed, and the student learns from them


Choose = Callable[[jax.Array, "State", Hypers, SampleLevel], Choice]
"""`(key, state, hypers, sample_level) -> choice`"""


class State(NamedTuple):
    """A student and its levels."""

    student: Any
    buffer: Buffer
    last: Choice
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done, of both kinds

    @property
    def params(self) -> Any:
        """The student's parameters."""
        return self.student.params


class Trajectory(NamedTuple):
    """What one update learns from."""

    student: Any  # the student's trajectory
    choice: Choice


def replay_or_explore(
    key: jax.Array, state: State, hypers: Hypers, sample_level: SampleLevel
) -> Choice:
    """Flip one coin for all levels: replay them from the buffer, or draw new ones."""
    coin_key, draw_key, new_key = jax.random.split(key, 3)
    num_envs, buffer = state.student.interaction.first.shape[0], state.buffer
    learns = curricula.decide_replay(coin_key, buffer, hypers.replay)
    learns &= buffer.filled.sum() >= num_envs
    chances = buffers.probabilities(buffer, hypers.replay.temperature, hypers.replay.staleness)
    known = curricula.recall_levels(buffer, buffers.draw(draw_key, chances, num_envs))
    new = curricula.new_levels(jax.vmap(sample_level)(jax.random.split(new_key, num_envs)))
    return Choice(tree_where(learns, known, new), learns)


def make(
    config: Config,
    student: Algorithm,
    env: OwnLevel,
    sample_level: SampleLevel,
    score: Score = positive_value_loss,
    choose: Choose = replay_or_explore,
) -> Algorithm:
    """Make robust PLR.

    Args:
        config: static settings of the replay.
        student: the algorithm that learns, made with `env`; it has an `estimate`.
        env: the environment; its states hold their levels.
        sample_level: draws a new level.
        score: scores a level, as in `ued/scores.py`.
        choose: chooses the levels of an update. This is the function that a fork replaces.

    Raises:
        ValueError: if the student has no `estimate`, or the buffer has no room for its levels.
    """
    require_fit("student", student, "replay by score", "num_envs", "steps_per_update", "estimate")
    num_envs = student.num_envs
    enough = config.capacity >= num_envs
    require(enough, config, "capacity", f"an integer >= num_envs = {num_envs}")

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        student_key, levels_key, key = jax.random.split(key, 3)
        levels = jax.vmap(sample_level)(jax.random.split(levels_key, num_envs))
        first = jax.tree.map(lambda x: x[0], levels)
        return State(
            student=student.init(student_key, hypers.student, Task(first, task.horizon)),
            buffer=buffers.empty(first, config.capacity),
            last=Choice(curricula.new_levels(levels), jnp.bool_(False)),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect(state: State, hypers: Hypers) -> tuple[State, Trajectory]:
        key, choice_key, reset_key = jax.random.split(state.key, 3)
        choice = choose(choice_key, state, hypers, sample_level)
        task = state.student.task._replace(horizon=state.task.horizon)
        moved = move_to_levels(reset_key, state.student, env, choice.draw.levels)
        after, trajectory = student.collect(
            moved._replace(task=task, step=state.step), hypers.student
        )
        buffer = buffers.mark_in_use(state.buffer, choice.draw.slot)
        state = state._replace(student=after, buffer=buffer, last=choice, key=key)
        return state, Trajectory(trajectory, choice)

    def score_levels(key: jax.Array, state: State, hypers: Hypers, seen: Trajectory) -> Visits:
        """Score the levels by the student's experience on them, before it learns."""
        transitions, draw = seen.student.transitions, seen.choice.draw
        found = student.estimate(state.student, hypers.student, seen.student)
        done = transitions.terminated | transitions.truncated
        returns = episode_returns(transitions.reward, done)
        num_envs = transitions.reward.shape[1]
        best = jnp.fmax(draw.best_return, jnp.nanmax(returns, axis=0))
        best = jnp.where(jnp.isfinite(best), best, 0.0)  # no episode has finished on the level yet
        no_antagonist = jnp.full((1, num_envs), jnp.nan)
        outcomes = LevelOutcome(found.advantage, found.value, returns, best, no_antagonist)
        level_axes = LevelOutcome(1, 1, 1, 0, 1)
        keys = jax.random.split(key, num_envs)
        scores = jax.vmap(score, in_axes=(0, level_axes))(keys, outcomes)
        return Visits(draw.slot, draw.levels, scores, best, jnp.ones(num_envs, bool))

    def learn(state: State, hypers: Hypers, seen: Trajectory) -> tuple[State, Metrics]:
        key, score_key = jax.random.split(state.key)
        visits = score_levels(score_key, state, hypers, seen)
        arguments = state.student, hypers.student, seen.student
        empty = jax.tree.map(_empty_metric, jax.eval_shape(student.learn, *arguments)[1])
        after, metrics = jax.lax.cond(
            seen.choice.learns,
            lambda: student.learn(*arguments),
            lambda: (state.student, empty | seen.student.episodes),
        )
        buffer = buffers.report(state.buffer, visits)
        metrics |= curricula.buffer_metrics(buffer) | {
            "env_steps": jnp.int32(student.steps_per_update),
            "learned": seen.choice.learns.astype(jnp.float32),
            "score": visits.score.mean(),
        }
        after = after._replace(step=state.step + 1)
        return state._replace(student=after, buffer=buffer, key=key, step=state.step + 1), metrics

    return Algorithm(
        config,
        init,
        collect,
        learn,
        policy=lambda state: student.policy(state.student),
        act=student.act,
        memory=student.memory,
        steps_per_update=student.steps_per_update,
        in_place=tuple(f"student.{path}" for path in student.in_place),
        made_of=(
            part_name(student.config),
            *student.made_of,
            *map(part_name, (env, sample_level, score, choose)),
        ),
    )


def _empty_metric(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Return the value of a metric in an update without learning: NaN, or 0 for integers."""
    empty = jnp.nan if jnp.issubdtype(shape.dtype, jnp.floating) else 0
    return jnp.full(shape.shape, empty, shape.dtype)
