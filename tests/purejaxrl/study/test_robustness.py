"""Solve rates over many levels, and their conditional value at risk."""

import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo
from envs import maze
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.study.robustness import (
    conditional_value_at_risk,
    solve_rates,
    stack_levels,
    steps_to_reach,
)


def test_the_worst_levels_are_chosen_by_one_set_of_attempts_and_reported_by_another():
    first = np.array([[0.5, 0.0, 1.0, 0.2]])
    second = np.array([[0.9, 0.4, 0.7, 0.0]])
    found = conditional_value_at_risk(first, second, np.array([0.25, 0.5, 1.0]))
    np.testing.assert_allclose(found, [[0.4, 0.2, 0.5]])
    assert conditional_value_at_risk(first, second, 0.25).shape == (1,)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"share: {share} is not valid"):
            conditional_value_at_risk(first, second, share)


def test_it_is_not_biased_by_luck():
    """Of levels that are all alike, the worst by one set are as good as any in another."""
    rng = np.random.default_rng(0)
    first, second = rng.binomial(4, 0.5, (2, 200, 1000)) / 4
    assert abs(conditional_value_at_risk(first, second, 0.1).mean() - 0.5) < 0.01
    assert conditional_value_at_risk(first, first, 0.1).mean() < 0.1


def test_steps_to_reach_a_rate():
    assert steps_to_reach(np.array([10, 20, 30]), np.array([0.1, 0.6, 0.4]), 0.5) == 20
    assert steps_to_reach(np.array([10, 20]), np.array([0.1, 0.2]), 0.5) == np.inf


def test_solve_rates_are_by_member_and_level():
    env = FlattenObservation(maze.Maze())
    forward = ppo.make(ppo.Config(num_envs=1), env)._replace(
        policy=lambda state: state,
        act=lambda policy, memory, obs, first, key, greedy: (
            jnp.full(obs.shape[0], policy, jnp.int32), memory,
        ),
    )  # fmt: skip
    levels = stack_levels(
        maze.from_text(text, size=3, max_steps=5) for text in (">.G", "G.>", ">#G", "..>\n..G")
    )
    found = solve_rates(
        forward, env, jnp.array([2, 0]), levels, num_episodes=2, max_steps=9, batch=2
    )
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match="batch: 3 is not valid; it must divide 4"):
        solve_rates(forward, env, jnp.zeros(1), levels, num_episodes=1, max_steps=9, batch=3)
