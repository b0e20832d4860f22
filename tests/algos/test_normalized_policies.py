"""A policy that was trained on normalised observations acts on raw ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import ppo, ppo_rnn, sac, td3
from purejaxrl.algorithm import Task, update
from tests.algos.algorithms import PENDULUM, PENDULUM_PARAMS, PPO, REPLAY

SIZES = {ppo: PPO, ppo_rnn: PPO, sac: REPLAY, td3: REPLAY}


@pytest.mark.parametrize("module", SIZES, ids=lambda module: module.__name__)
def test_acting_normalises_observations_by_the_moments_of_training(module):
    """As the same network, without moments, acts on observations normalised by hand."""
    hypers, sizes = module.Hypers(), SIZES[module]
    agent = module.make(module.Config(**sizes, normalize_obs=True), PENDULUM)
    plain = module.make(module.Config(**sizes), PENDULUM)

    @jax.jit
    def train(key):
        state = agent.init(key, hypers, Task(PENDULUM_PARAMS, jnp.int32(6)))
        return update(agent, state, hypers)[0]

    state = train(jax.random.key(0))
    moments = state.moments if hasattr(state, "moments") else state.normalizer.obs
    raw = np.array([[1.0, 0.0, 8.0], [-1.0, 0.0, -8.0], [0.0, 1.0, 4.0]])
    by_hand = (raw - np.float64(moments.mean)) / np.sqrt(np.float64(moments.var))
    policy, first, key = agent.policy(state), jnp.ones(3, bool), jax.random.key(1)
    memory = agent.memory(3)

    def act(agent, policy, obs):
        return agent.act(policy, memory, jnp.float32(obs), first, key, True)[0]

    network = type(policy)(policy[0], None)  # without moments
    expected = act(plain, network, by_hand)
    np.testing.assert_allclose(act(agent, policy, raw), expected, rtol=1e-4, atol=1e-6)
    assert abs(act(plain, network, raw) - expected).max() > 1e-3
