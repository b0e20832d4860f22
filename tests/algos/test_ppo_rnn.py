"""Recurrent PPO: it remembers within an episode, and nothing across its end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo, ppo_rnn
from purejaxrl.algorithm import Task, make_train
from purejaxrl.parts import networks
from purejaxrl.parts.recurrent import GRU
from tests.algos.probes import Params, Probe
from tests.helpers import begin

CONFIG = ppo_rnn.Config(num_envs=16, num_steps=16, num_minibatches=2, hidden=(16,), memory_size=16)
HYPERS = ppo_rnn.Hypers(learning_rate=1e-2, final_rate_fraction=1.0)


def match_cue_at_the_end(state, action):
    """Three steps; only the last action counts, and the cue was shown at the first."""
    return jnp.where(state.time < 2, 0, jnp.where(action == (state.cue > 0), 1, -1))


def final_returns(algorithm, hypers, updates=100):
    """Of eight agents: the last bit of a sum can decide over the luck of one."""
    run = jax.jit(jax.vmap(make_train(algorithm, updates), in_axes=(0, None, None)))
    keys = jax.random.split(jax.random.key(0), 8)
    _, metrics = run(keys, hypers, Params(max_steps_in_episode=9, length=3))
    return np.asarray(metrics["return"][:, -5:].mean(1))


def test_it_solves_what_a_policy_without_memory_cannot():
    env = Probe(match_cue_at_the_end, show_always=False)
    assert (final_returns(ppo_rnn.make(CONFIG, env), HYPERS) > 0.9).sum() >= 7
    blind = ppo.Config(num_envs=16, num_steps=16, num_minibatches=2, hidden=(16,))
    returns = final_returns(ppo.make(blind, env), ppo.Hypers(learning_rate=1e-2))
    assert np.abs(returns).max() < 0.5


def network(size=4):
    """Compiled functions that draw parameters, and apply them."""
    net = ppo_rnn.ActorCritic(networks.MLP((8,)), GRU(size), networks.spaces.Discrete(2))
    return jax.jit(net.init), jax.jit(net.apply)


def test_memory_is_cleared_before_a_first_observation_and_only_then():
    init, apply = network()
    obs = jax.random.normal(jax.random.key(0), (5, 2, 3))
    first = jnp.zeros((5, 2), bool).at[3, 0].set(True)
    memory = jax.random.normal(jax.random.key(1), (2, 4))
    params = init(jax.random.key(2), memory, obs, first)
    _, _, value = apply(params, memory, obs, first)
    _, _, fresh = apply(params, jnp.zeros((2, 4)), obs[3:], first[3:])
    np.testing.assert_allclose(value[3:, 0], fresh[:, 0], atol=1e-6)  # env 0: cleared
    assert np.abs(value[3:, 1] - fresh[:, 1]).min() > 1e-6  # env 1: not cleared


def test_stepping_equals_running_over_time():
    init, apply = network()
    obs = jax.random.normal(jax.random.key(0), (6, 2, 3))
    first = jax.random.bernoulli(jax.random.key(3), 0.4, (6, 2))
    memory = jnp.zeros((2, 4))
    params = init(jax.random.key(2), memory, obs, first)
    last, _, value = apply(params, memory, obs, first)
    for t in range(6):
        memory, _, stepped = apply(params, memory, obs[t : t + 1], first[t : t + 1])
        np.testing.assert_allclose(stepped[0], value[t], atol=1e-6)
    np.testing.assert_allclose(memory, last, atol=1e-6)


def test_the_network_is_reset_at_the_step_after_a_done():
    """`first` at t is the done of t - 1; several other codebases are off by one here."""
    env = Probe(match_cue_at_the_end, show_always=False)
    algorithm = ppo_rnn.make(CONFIG, env)
    task = Task(Params(max_steps_in_episode=9, length=3), jnp.int32(4))
    state = begin(algorithm, HYPERS, task)
    _, trajectory = algorithm.collect(state, HYPERS)
    seen = trajectory.transitions
    np.testing.assert_array_equal(seen.first[0], True)
    np.testing.assert_array_equal(seen.first[1:], (seen.terminated | seen.truncated)[:-1])
    np.testing.assert_array_equal(seen.first[:, 0], np.arange(16) % 3 == 0)


def test_learning_sees_the_log_probabilities_that_acting_had():
    env = Probe(match_cue_at_the_end, show_always=False)
    config = ppo_rnn.Config(num_envs=4, num_steps=16, num_minibatches=1, num_epochs=1, hidden=(8,))
    run = jax.jit(make_train(ppo_rnn.make(config, env), 3))
    _, metrics = run(jax.random.key(0), HYPERS, Params(max_steps_in_episode=9, length=3))
    np.testing.assert_allclose(metrics["approx_kl"], 0.0, atol=1e-6)


def test_minibatches_are_over_environments():
    with pytest.raises(ValueError, match="num_minibatches: 4 is not valid; .* num_envs = 6"):
        ppo_rnn.Config(num_envs=6, num_steps=4, num_minibatches=4)
