"""True regret: the optimum of a level less what the student earns there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import ppo
from envs import maze
from envs.maze_solution import actions_to_goal, optimal_return
from envs.optimum import solver
from purejaxrl.algorithm import Task
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued import student as students
from purejaxrl.ued.curriculum import Replay, replay
from purejaxrl.ued.scores import LevelOutcome, true_regret
from purejaxrl.ued.student import OwnLevel

KEY = jax.random.key(0)
LIMIT = 20
MAZES = {  # what the student does, and the regret by hand: 0.9 * (its actions - fewest) / limit
    "a straight corridor": (">.G", "FF", 0.0),
    "after turning around": (">.G", "LLLLFF", 0.9 * (6 - 2) / LIMIT),
    "never": (">.G", "L" * LIMIT, 1 - 0.9 * 2 / LIMIT),
    "around a corner": (">.\n#G", "FLLLF", 0.9 * (5 - 3) / LIMIT),
    "a wall between": (">#G", "F" * LIMIT, 0.0),
}


def regret_of(level, actions):
    """True regret of a student that takes the actions in its only episode."""
    env, total = maze.Maze(), 0.0
    _, state = env.reset(KEY, level)
    for action in actions:
        _, state, reward, *_ = env.step(KEY, state, jnp.int32(action), level)
        total += float(reward)
    returns = jnp.array([total])
    return float(
        true_regret(KEY, LevelOutcome(returns, returns[0], optimal_return=optimal_return(level)))
    )


@pytest.mark.parametrize("name", MAZES)
def test_it_equals_the_figure_by_hand(name):
    text, actions, expected = MAZES[name]
    level = maze.from_text(text, size=3, max_steps=LIMIT)
    found = regret_of(level, ["LRF".index(action) for action in actions])
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["Labyrinth", "SixteenRooms"])
def test_it_is_0_for_the_optimal_policy_of_an_informed_student(name):
    level = maze.held_out()[name]
    to_go = np.asarray(actions_to_goal(level))
    (row, column), direction, actions = level.agent_pos.tolist(), int(level.agent_dir), []
    while (row, column) != tuple(level.goal_pos.tolist()):
        ahead = np.add((row, column), maze.DIRECTIONS[direction])
        turns = [to_go[(direction + turn) % 4, row, column] for turn in (-1, 1)]
        inside = (ahead >= 0).all() and (ahead < 13).all()
        forward = to_go[direction, *ahead] if inside else np.inf
        actions.append(int(np.argmin([*turns, forward])))
        if actions[-1] == 2:
            row, column = ahead
        else:
            direction = (direction + (-1, 1)[actions[-1]]) % 4
    assert regret_of(level, actions) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_a_student_scores_mazes_by_their_optimum():
    level = maze.from_text(">.\n.G", size=2, max_steps=5)
    sample = lambda key: level  # noqa: E731
    env = OwnLevel(FlattenObservation(maze.Maze()))
    agent = ppo.make(ppo.Config(num_envs=4, num_steps=16, num_minibatches=1, hidden=(4,)), env)
    student = students.make(agent, env, replay(sample, true_regret, 8), optimal_return)
    hypers = students.Hypers(ppo.Hypers(), Replay(replay_prob=0.0))
    state = student.init(KEY, hypers, Task((), jnp.int32(1)))
    state, experience = jax.jit(lambda state: student.collect(state, hypers))(state)
    seen = experience.transitions
    done = np.asarray(seen.terminated | seen.truncated)
    after, metrics = jax.jit(lambda *x: student.learn(x[0], hypers, x[1]))(state, experience)
    expected = []
    for reward, ends in zip(np.asarray(seen.reward).T, done.T, strict=True):
        finished = reward[: np.flatnonzero(ends)[-1] + 1].sum() / ends.sum()
        expected.append(float(optimal_return(level)) - finished)
    assert metrics["score"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert after.curriculum.score.max() == pytest.approx(max(expected), abs=1e-5)


def test_it_is_exact_in_grid_worlds_too():
    env, level = envs.make("gridworld-small")
    best = jax.jit(solver(env))(level)
    outcome = LevelOutcome(jnp.array([0.25, jnp.nan]), best, optimal_return=best)
    assert best > 0 and true_regret(KEY, outcome) == best - 0.25
