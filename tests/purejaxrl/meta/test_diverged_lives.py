"""Agents that diverge under a candidate, where actions are discrete and returns stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import a2c
from purejaxrl.meta import evolution
from purejaxrl.meta.validation import against
from purejaxrl.meta.worlds import World
from purejaxrl.ued.curriculum import uniform

ENV, ENV_PARAMS = envs.make("bandit-contextual")
AGENT = a2c.make(a2c.Config(num_envs=2, num_steps=2, hidden=(4,)), ENV)
WORLD = World("bandit", AGENT, ENV, uniform(lambda key: ENV_PARAMS), lambda key: jnp.int32(2))
CONFIG = evolution.Config(num_pairs=2, num_episodes=2, max_steps=10)
HYPERS = evolution.Hypers(agent=a2c.Hypers(), std=0.1)


def set_step_size(theta, hypers):
    """Agents diverge where θ is positive."""
    return hypers.replace(learning_rate=jnp.where(theta > 0, jnp.nan, 1e-3))


@pytest.mark.parametrize(("theta", "unsound"), [(9.0, 4), (-9.0, 0)])
def test_an_evolution_counts_them(theta, unsound):
    start = lambda key: jnp.float32(theta)  # noqa: E731
    learner = evolution.make(CONFIG, WORLD, init_theta=start, insert=set_step_size)
    state = jax.jit(learner.init)(jax.random.key(0), HYPERS, None)
    _, metrics = jax.jit(learner.learn)(state, HYPERS, ())
    assert metrics["unsound"] == unsound


def test_a_validation_lets_them_lose():
    evaluator = against(jnp.float32(-9.0), CONFIG, WORLD, set_step_size, HYPERS)
    found = jax.jit(lambda theta: evaluator.play(None, jax.random.key(0), theta, ()))
    np.testing.assert_array_equal(found(jnp.float32(9.0))["return"], 0.0)
