"""Solve rates over many levels, and their conditional value at risk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo
from envs import maze
from purejaxrl.identity import is_named
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.study.robustness import (
    conditional_value_at_risk,
    jackknife_at_risk,
    on_levels,
    play_levels,
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


ENV = FlattenObservation(maze.Maze())
LEVELS = stack_levels(
    maze.from_text(text, size=3, max_steps=5) for text in (">.G", "G.>", ">#G", "..>\n..G")
)
FORWARD, RIGHT = 2, 1


def acts(act, memory=lambda num_envs: ()):
    """A policy by hand: `act(policy, memory, first, key) -> (action, memory)`."""
    agent = ppo.make(ppo.Config(num_envs=1), ENV)
    return agent._replace(
        policy=lambda state: state,
        act=lambda policy, memory, obs, first, key, greedy: act(policy, memory, first, key),
        memory=memory,
    )


@pytest.mark.parametrize("num_slots", [1, 3, 100])
def test_solve_rates_are_by_member_and_level(num_slots):
    always = acts(lambda policy, memory, first, _: (jnp.full(first.shape, policy), memory))
    options = {"num_episodes": 2, "max_steps": 9, "num_slots": num_slots}
    found = solve_rates(always, ENV, jnp.array([FORWARD, 0]), LEVELS, **options)
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [0, 0, 0, 0]])
    options["max_steps"] = 1  # the first maze takes two
    found = solve_rates(always, ENV, jnp.array([FORWARD]), LEVELS, **options)
    np.testing.assert_array_equal(found, [[0, 0, 0, 0]])


@pytest.mark.parametrize("num_slots", [1, 3])
def test_every_episode_of_a_slot_begins_with_an_empty_memory(num_slots):
    """The policy turns right, and then only walks: that solves the last maze."""

    def act(policy, memory, first, key):
        return jnp.where(memory == 0, RIGHT, FORWARD), memory + 1

    agent = acts(act, memory=lambda num_envs: jnp.zeros(num_envs, jnp.int32))
    options = {"num_episodes": 4, "max_steps": 9, "num_slots": num_slots}
    found = solve_rates(agent, ENV, jnp.zeros(1), LEVELS, **options)
    np.testing.assert_array_equal(found, [[0, 0, 0, 1]])


RANDOM = acts(
    lambda policy, memory, first, key: (jax.random.randint(key, first.shape, 0, 3), memory)
)


def test_attempts_differ_by_seed_and_by_member():
    """Luck must not choose the worst levels and also be their rate, nor be all members' alike."""

    def rates(seed):
        return solve_rates(
            RANDOM, ENV, jnp.zeros(2), LEVELS, num_episodes=50, max_steps=4, seed=seed
        )

    first, second = rates(0), rates(1)
    np.testing.assert_array_equal(rates(0), first)
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 4


def test_refilled_slots_find_the_rates_of_episodes_side_by_side():
    count = 2000
    found = solve_rates(
        RANDOM, ENV, jnp.zeros(1), LEVELS, num_episodes=count, max_steps=4, num_slots=50
    )[0]
    play = jax.jit(
        lambda key: play_levels(RANDOM, ENV, key, jnp.zeros(()), LEVELS, count, max_steps=4)
    )
    expected = (play(jax.random.key(7)) > 0).mean(-1)
    assert 0.02 < expected[0] < 0.98 and expected[2] == found[2] == 0
    deviation = np.sqrt(2 * expected * (1 - expected) / count)
    assert (abs(found - expected) <= 4 * deviation).all()


def test_values_of_blocks_have_the_mean_over_all_levels_and_its_spread():
    """For all levels, a block has its own mean; for the worst, the bias of few levels shrinks."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(size=(3, 100))
    found = jackknife_at_risk(rates, rates, np.array([1.0]), 10)[..., 0]
    np.testing.assert_allclose(found, rates.reshape(3, 10, 10).mean(-1))
    samples = rng.uniform(size=(2000, 100))  # the worst tenth of U(0, 1) has a mean of 0.05
    whole = conditional_value_at_risk(samples, samples, np.array([0.1])).mean()
    corrected = jackknife_at_risk(samples, samples, np.array([0.1]), 10).mean()
    assert abs(corrected - 0.05) < 0.5 * abs(whole - 0.05)


def test_the_name_of_an_evaluation_on_levels_tells_all_that_it_depends_on():
    """A run is not continued with other evaluations under the same name."""
    name = lambda **changes: on_levels(**{**arguments, **changes}).name  # noqa: E731
    arguments = {"env": ENV, "levels": LEVELS, "num_episodes": 2, "max_steps": 9}
    other_levels = LEVELS.replace(goal_pos=LEVELS.goal_pos[::-1])
    names = {
        name(),
        name(env=FlattenObservation(maze.Maze(view_size=3))),
        name(levels=other_levels),
        name(num_episodes=3),
        name(max_steps=5),
    }
    assert len(names) == 5 and all(map(is_named, names))
    assert name() == name(levels=jax.tree.map(np.asarray, LEVELS))
