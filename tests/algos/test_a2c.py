"""A2C on probes: it learns, and keeps termination and truncation apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import a2c
from purejaxrl.algorithm import make_train
from purejaxrl.parts import networks
from tests.algos.probes import Params, Probe

SMALL = a2c.Config(num_envs=8, num_steps=16, hidden=(16,))
FAST = a2c.Hypers(learning_rate=1e-2)


def train(env, params, updates=250, config=SMALL, hypers=FAST):
    run = jax.jit(make_train(a2c.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


def test_it_learns_to_act_on_what_it_sees():
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    _, metrics = train(env, Params())
    assert metrics["return"][-5:].mean() > 0.9


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    env = Probe(lambda state, action: jnp.float32(1))
    hypers = FAST.replace(gamma=0.5, gae_lambda=0.5)
    critic = networks.readout(env.observation_space(), networks.MLP((16,)), 1)
    seen = jnp.array([[1.0, 1.0], [-1.0, 1.0]])

    run = jax.jit(make_train(a2c.make(SMALL, env), 400))

    def values(params):
        state, _ = run(jax.random.key(0), hypers, params)
        return critic.apply(state.params.critic, seen)[..., 0]

    np.testing.assert_allclose(values(Params(length=1)), 1.0, atol=0.05)
    truncating = Params(length=100, max_steps_in_episode=1)
    np.testing.assert_allclose(values(truncating), 2.0, atol=0.1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_tables_learn(optimizer):
    env, level = envs.make("gridworld-small")
    config = a2c.Config(num_envs=16, optimizer=optimizer)
    rate = {"adam": 0.1, "sgd": 10.0}[optimizer]
    hypers = a2c.Hypers(learning_rate=rate, max_grad_norm=jnp.inf)
    _, metrics = train(env, level, 100, config, hypers)
    first, last = jnp.nanmean(metrics["return"][:5]), jnp.nanmean(metrics["return"][-20:])
    assert last > first + 0.5


@pytest.mark.slow
def test_vmapped_over_seeds_equals_looped():
    env, params = envs.make("CartPole-v1")
    run = jax.jit(make_train(a2c.make(SMALL, env), 3))
    keys = jax.random.split(jax.random.key(0), 2)
    together, _ = jax.jit(jax.vmap(run, in_axes=(0, None, None)))(keys, FAST, params)
    alone, _ = run(keys[1], FAST, params)
    for a, b in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"), [("num_envs", 0), ("torso", "rnn"), ("hidden", ()), ("optimizer", "lion")]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Config\.{field}: .* is not valid"):
        a2c.Config(**{field: value})


def test_continuous_actions_are_refused():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(ValueError, match="action_space: .*must be Discrete"):
        a2c.make(SMALL, env)
