"""Robust PLR and ACCEL against their algorithm boxes, written as plain Python.

The boxes share the agent and the buffer with the code, and decide everything themselves: the coin,
the levels, whether the agent learns, and what is reported. Levels and decisions must be equal,
floats up to the rounding of another program.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import accel, plr, ppo
from envs import maze, maze_levels
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued import buffer as buffers
from purejaxrl.ued import student as students
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.scores import episode_returns, max_monte_carlo
from purejaxrl.ued.student import OwnLevel
from tests.helpers import arrays, assert_equal, mostly_slow

NUM_ENVS, CAPACITY, NUM_UPDATES = 3, 8, 16
ENV = OwnLevel(FlattenObservation(maze.Maze()))
CONFIG = ppo.Config(num_envs=NUM_ENVS, num_steps=8, num_epochs=1, num_minibatches=1, hidden=(4,))
AGENT = ppo.make(CONFIG, ENV)
AGENT_HYPERS = ppo.Hypers(learning_rate=1e-2, final_rate_fraction=0.1)
SAMPLE = maze_levels.uniform(20, size=7, max_steps=6)
HORIZON = 40


def mutate(key, level):
    return maze_levels.mutate(key, level, 3)


CASES = {
    "plr": (plr.curriculum(SAMPLE, max_monte_carlo, CAPACITY), plr.hypers(AGENT_HYPERS)),
    "accel": (
        accel.curriculum(SAMPLE, mutate, max_monte_carlo, CAPACITY),
        accel.hypers(AGENT_HYPERS),
    ),
}


@jax.jit
def choose(key, buffer, replay):
    """Both sides of the coin: what to replay, and what is new."""
    coin_key, draw_key, new_key = jax.random.split(key, 3)
    chances = buffers.log_chances(buffer, replay.temperature, replay.staleness)
    slots = buffers.draw(draw_key, chances, NUM_ENVS)
    new = jax.vmap(SAMPLE)(jax.random.split(new_key, NUM_ENVS))
    return jax.random.uniform(coin_key), slots, new


@jax.jit
def act(key, agent, levels, step):
    """Begin episodes on the levels, and collect experience."""
    obs, env_state = jax.vmap(ENV.reset)(jax.random.split(key, NUM_ENVS), levels)
    start = type(agent.interaction).start(key, ENV, maze.empty(), NUM_ENVS)
    agent = agent._replace(step=step, interaction=start._replace(env_state=env_state, obs=obs))
    return AGENT.collect(agent, AGENT_HYPERS)


@jax.jit
def judge(key, agent, experience, best_return):
    """The scores of the levels, and the highest returns now known."""
    seen = experience.transitions
    done = seen.terminated | seen.truncated
    returns = episode_returns(seen.reward, done)
    best = jnp.fmax(best_return, jnp.nanmax(returns, axis=0))
    best = jnp.where(jnp.isfinite(best), best, 0.0)
    value = AGENT.estimate(agent, AGENT_HYPERS, experience).value
    steps = jnp.arange(done.shape[0])[:, None]
    whole = steps <= jnp.where(done, steps, -1).max(axis=0)  # until the end of the last episode
    return (whole * (best - value)).sum(axis=0) / whole.sum(axis=0), best


@jax.jit
def record(buffer, visits):
    return buffers.report(buffers.mark_in_use(buffer, visits.slot), visits)


learn = jax.jit(AGENT.learn)


@jax.jit
def edit(key, levels):
    return jax.vmap(mutate)(jax.random.split(key, NUM_ENVS), levels)


def naive_update(student, buffer, parents, replay, edits: bool):
    """One update of a student, from its state, its buffer, and the levels to edit (or None).

    Returns:
        What was done, the levels, the agent and the buffer.
    """
    key, choice_key, reset_key = jax.random.split(student.key, 3)
    if edits:
        edit_key, choice_key = jax.random.split(choice_key)
    coin, slots, levels = choose(choice_key, buffer, replay)
    least = min(replay.min_draws * NUM_ENVS, CAPACITY)
    deed, best = "explore", jnp.full(NUM_ENVS, -jnp.inf)
    if parents is not None:
        deed, levels = "edit", edit(edit_key, parents)
    elif buffer.filled.sum() >= least and coin < replay.replay_prob:
        deed, levels = "replay", jax.tree.map(lambda x: x[slots], buffer.levels)
        best = buffer.best_return[slots]
    slots = slots if deed == "replay" else jnp.full(NUM_ENVS, NOT_KEPT)

    agent, experience = act(reset_key, student.agent, levels, student.step)
    _, score_key = jax.random.split(key)
    scores, best = judge(score_key, agent, experience, best)
    visits = Visits(slots, levels, scores, best, jnp.ones(NUM_ENVS, bool))
    buffer = record(buffer, visits)
    if deed == "replay":
        agent, _ = learn(agent, AGENT_HYPERS, experience)
    return deed, levels, agent, buffer


@pytest.mark.parametrize("name", mostly_slow(CASES, {"accel"}))
def test_a_student_follows_the_algorithm_box(name):
    curriculum, hypers = CASES[name]
    edits = name == "accel"
    student = students.make(AGENT, ENV, curriculum)
    task = Task((), jnp.int32(HORIZON))
    state = jax.jit(lambda key: student.init(key, hypers, task))(jax.random.key(0))
    step = jax.jit(lambda state: update(student, state, hypers))
    buffer_of = lambda state: state.curriculum.buffer if edits else state.curriculum  # noqa: E731
    parents, deeds = None, []
    for _ in range(NUM_UPDATES):
        deed, levels, agent, buffer = naive_update(
            state, buffer_of(state), parents, hypers.curriculum, edits
        )
        parents = levels if edits and deed == "replay" else None
        deeds.append(deed)
        state, metrics = step(state)
        assert metrics["learned"] == (deed == "replay")
        assert_equal(state.agent.interaction.env_state.level, levels)
        found = state.params, state.agent.opt_state, buffer_of(state)
        for x, y in zip(
            arrays(found), arrays((agent.params, agent.opt_state, buffer)), strict=True
        ):
            tolerance = 1e-5 * np.issubdtype(x.dtype, np.floating)
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    assert {*deeds} == {"explore", "replay"} | ({"edit"} if edits else set())
