"""Lives: their final return, staggered first lives, and the replacement of finished agents."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import a2c
from purejaxrl.algorithm import Task, make_train
from purejaxrl.meta.lifetime import map_finished, replace_each, stagger_horizon, train_and_play
from purejaxrl.running.evaluate import evaluate


@pytest.mark.slow
def test_the_return_of_a_life_is_that_of_its_last_policy():
    env, params = envs.make("gridworld-small")
    agent = a2c.make(a2c.Config(num_envs=2, num_steps=5), env)
    key, hypers = jax.random.key(3), a2c.Hypers(learning_rate=0.1)
    init_key, evaluation_key = jax.random.split(key)

    @jax.jit
    def final_return(horizon):
        one = jax.tree.map(lambda x: jnp.asarray(x)[None], (key, hypers, Task(params, horizon)))
        return train_and_play(agent, env, *one, num_episodes=8, max_steps=300).ret.mean()

    for horizon in (1, 4):  # one program for all
        state, _ = jax.jit(make_train(agent, horizon))(init_key, hypers, params)
        found = evaluate(
            agent, env, evaluation_key, agent.policy(state), params,
            num_episodes=8, greedy=False, max_steps=300,
        )  # fmt: skip
        np.testing.assert_allclose(final_return(jnp.int32(horizon)), found.ret.mean(), rtol=1e-6)


def test_first_lives_end_at_even_intervals():
    ends = [int(stagger_horizon(jnp.int32(100), jnp.int32(i), 4)) for i in range(4)]
    assert ends == [25, 50, 75, 100]


@pytest.mark.parametrize("num_agents", [1, 3, 2048, 40_000])
@pytest.mark.parametrize("horizon", [1, 7, 2047, 2_000_000, 2**31 - 1])
def test_first_lives_end_where_exact_fractions_say_whatever_the_size(horizon, num_agents):
    index = np.arange(num_agents, dtype=np.int32)
    found = jax.jit(stagger_horizon, static_argnums=2)(jnp.int32(horizon), index, num_agents)
    expected = [max(1, math.ceil(Fraction(horizon * (i + 1), num_agents))) for i in index.tolist()]
    assert found.dtype == jnp.int32 and found.tolist() == expected


def test_a_first_life_has_at_least_one_update():
    assert int(stagger_horizon(jnp.int32(3), jnp.int32(0), 50)) == 1


@jax.jit
def replace(agents, finished):
    def replacement(agent, i):
        return {"key": jax.random.split(agent["key"])[0], "x": -agent["x"] - 1}

    return replace_each(agents, finished, replacement)


@pytest.mark.parametrize("finished", [[0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1]])
def test_finished_agents_are_replaced_and_no_others(finished):
    agents = {"key": jax.random.split(jax.random.key(0), 4), "x": jnp.arange(8.0).reshape(4, 2)}
    finished = np.array(finished, bool)
    after = replace(agents, finished)
    expected = np.where(finished[:, None], -agents["x"] - 1, agents["x"])
    np.testing.assert_array_equal(after["x"], expected)
    changed = (jax.random.key_data(after["key"]) != jax.random.key_data(agents["key"])).any(1)
    np.testing.assert_array_equal(changed, finished)


@partial(jax.jit, static_argnums=2)
def sum_of_finished(x, finished, slots):
    return map_finished(lambda x: (x.sum(), x), x, finished, slots)


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
@pytest.mark.parametrize("finished", [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]])
def test_every_finished_agent_is_mapped_whatever_the_number_of_slots(slots, finished):
    finished, x = np.array(finished, bool), jnp.arange(10.0).reshape(5, 2)
    total, same = sum_of_finished(x, finished, slots)
    np.testing.assert_array_equal(total, np.where(finished, x.sum(1), np.nan))
    np.testing.assert_array_equal(same, np.where(finished[:, None], x, np.nan))
