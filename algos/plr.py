"""Robust prioritised level replay (Jiang et al. 2021, arXiv 2110.02439), for any student.

In one update a student either replays levels from a buffer, and learns from them, or explores new
ones, and does not: those only get a score, with which they may enter the buffer. So its gradients
are of a distribution of levels that the scores have chosen (PLR⊥).

The student is an algorithm with an `estimate`, such as PPO, in an `OwnLevel` environment: one level
in each of its environments, for one rollout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.identity import part_name
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued import curriculum as curricula
from purejaxrl.ued.buffer import Buffer, Visits
from purejaxrl.ued.curriculum import Draw, Replay
from purejaxrl.ued.scores import Outcome, episode_returns, positive_value_loss
from purejaxrl.ued.student import OwnLevel, send
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    capacity: int = 4000
    """Levels that the buffer has room for; at least as many as the student has environments."""

    def __post_init__(self):
        require_count(self, "capacity")


class Hypers(struct.PyTreeNode):
    """What training can be vmapped or swept over. Traced."""

    student: Any = None
    """The student's hyperparameters."""
    replay: Replay = Replay(replay_prob=0.5, temperature=0.3, staleness=0.3, min_fill=0.5)
    """How levels are replayed."""


class Choice(NamedTuple):
    """Where a student goes next."""

    draw: Draw  # [num_envs, ...]
    learns: jax.Array  # bool: it replays levels


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
        """The student's."""
        return self.student.params


class Visit(NamedTuple):
    """What one update learns from."""

    trajectory: Any
    choice: Choice


def replay_or_explore(
    key: jax.Array, state: State, hypers: Hypers, sample_level: Callable
) -> Choice:
    """Flip a coin: levels from the buffer, all of them, or all new ones."""
    coin_key, draw_key, new_key = jax.random.split(key, 3)
    num_envs, buffer = state.student.first.shape[0], state.buffer
    learns = curricula.replays(coin_key, buffer, hypers.replay)
    learns &= buffer.filled.sum() >= num_envs
    chances = buffers.probabilities(buffer, hypers.replay.temperature, hypers.replay.staleness)
    known = curricula.remember(buffer, buffers.draw(draw_key, chances, num_envs))
    new = curricula.new(jax.vmap(sample_level)(jax.random.split(new_key, num_envs)))
    return Choice(tree_where(learns, known, new), learns)


def make(
    config: Config,
    student: Algorithm,
    env: OwnLevel,
    sample_level: Callable,
    score: Callable = positive_value_loss,
    choose: Callable = replay_or_explore,
) -> Algorithm:
    """Robust PLR.

    Args:
        config: static settings of the replay.
        student: the algorithm that learns, made with `env`; it has an `estimate`.
        env: the environment, with a level of its own in each.
        sample_level: `(key) -> level`.
        score: of a level, `(key, Outcome) -> float`, as in `ued/scores.py`.
        choose: `(key, state, hypers, sample_level) -> Choice`. The line a fork edits.

    Raises:
        ValueError: if the student has no `estimate`, or the buffer has no room for its levels.
    """
    if student.estimate is None:
        raise ValueError("student: an algorithm without an estimate is not valid")
    num_envs = student.config.num_envs
    enough = config.capacity >= num_envs
    require(enough, config, "capacity", f"an integer >= num_envs = {num_envs}")

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        student_key, levels_key, key = jax.random.split(key, 3)
        levels = jax.vmap(sample_level)(jax.random.split(levels_key, num_envs))
        first = jax.tree.map(lambda x: x[0], levels)
        return State(
            student=student.init(student_key, hypers.student, Task(first, task.horizon)),
            buffer=buffers.empty(first, config.capacity),
            last=Choice(curricula.new(levels), jnp.bool_(False)),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect(state: State, hypers: Hypers) -> tuple[State, Visit]:
        key, choice_key, reset_key = jax.random.split(state.key, 3)
        choice = choose(choice_key, state, hypers, sample_level)
        horizon = state.student.task._replace(horizon=state.task.horizon)
        pupil = send(reset_key, state.student, env, choice.draw.levels)
        pupil, trajectory = student.collect(
            pupil._replace(task=horizon, step=state.step), hypers.student
        )
        buffer = buffers.take(state.buffer, choice.draw.slot)
        state = state._replace(student=pupil, buffer=buffer, last=choice, key=key)
        return state, Visit(trajectory, choice)

    def judge(key: jax.Array, state: State, hypers: Hypers, visit: Visit) -> Visits:
        """Score the levels by what the student made of them, before it learns."""
        seen = visit.trajectory.transitions
        found = student.estimate(state.student, hypers.student, visit.trajectory)
        returns = episode_returns(seen.reward, seen.terminated | seen.truncated)
        draw, num_envs = visit.choice.draw, seen.reward.shape[1]
        best = jnp.fmax(draw.best_return, jnp.nanmax(returns, axis=0))
        best = jnp.where(jnp.isfinite(best), best, 0.0)  # no episode has ended there yet
        nobody = jnp.full((1, num_envs), jnp.nan)
        outcome = Outcome(found.advantage, found.value, returns, best, nobody)
        of_levels = Outcome(1, 1, 1, 0, 1)
        scores = jax.vmap(score, in_axes=(0, of_levels))(jax.random.split(key, num_envs), outcome)
        return Visits(draw.slot, draw.levels, scores, best, jnp.ones(num_envs, bool))

    def learn(state: State, hypers: Hypers, visit: Visit) -> tuple[State, Metrics]:
        key, score_key = jax.random.split(state.key)
        visits = judge(score_key, state, hypers, visit)
        arguments = state.student, hypers.student, visit.trajectory
        nothing = jax.tree.map(_nothing, jax.eval_shape(student.learn, *arguments)[1])
        pupil, metrics = jax.lax.cond(
            visit.choice.learns,
            lambda: student.learn(*arguments),
            lambda: (state.student, nothing | visit.trajectory.episodes),
        )
        buffer = buffers.report(state.buffer, visits)
        metrics |= curricula.describe(buffer) | {
            "env_steps": jnp.int32(student.config.batch_size),
            "learned": visit.choice.learns.astype(jnp.float32),
            "score": visits.score.mean(),
        }
        pupil = pupil._replace(step=state.step + 1)
        return state._replace(student=pupil, buffer=buffer, key=key, step=state.step + 1), metrics

    return Algorithm(
        config,
        init,
        collect,
        learn,
        policy=lambda state: student.policy(state.student),
        act=student.act,
        memory=student.memory,
        made_of=(
            part_name(student.config),
            *student.made_of,
            *map(part_name, (sample_level, score, choose)),
        ),
    )


def _nothing(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """What a metric is where nothing was learned."""
    empty = jnp.nan if jnp.issubdtype(shape.dtype, jnp.floating) else 0
    return jnp.full(shape.shape, empty, shape.dtype)
