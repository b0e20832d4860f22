"""Values where a rollout or an episode ends: known ones, on a chain."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from algos import a2c, ppo, ppo_rnn
from purejaxrl.algorithm import Task
from purejaxrl.parts.normalize import Moments
from tests.algos.chain import GAMMA, Chain
from tests.helpers import begin

VALUES = jnp.array([10.0, 20.0, 40.0])  # of the chain's states
TARGETS = [6.5, 2.0, 14.0, 24.0, 11.0]
"""Of five steps with λ = 1/2: 1 + γ (20 + 2) / 2; 2, terminated; 3 + γ (20 + 24) / 2;
4 + γ 40, truncated; 1 + γ 20, where the rollout ends."""
TASK = Task(Chain().default_params, jnp.int32(9))


class OneHotChain(Chain):
    """The chain, whose observations are vectors."""

    def get_obs(self, state, params=None, key=None):
        return jax.nn.one_hot(state.time, 3)

    def observation_space(self, params=None):
        return spaces.Box(0.0, 1.0, (3,))


class Identity(nn.Module):
    """A torso whose features are the observations."""

    def __call__(self, obs):
        return obs


class CountsSteps(nn.Module):
    """A torso whose features are the observations and the steps of the episode so far."""

    def __call__(self, memory, obs, first):
        def step(count, first):
            count = jnp.where(first, 0.0, count) + 1.0
            return count, count

        memory, counts = jax.lax.scan(step, memory, first)
        return memory, jnp.concatenate([obs, counts[..., None]], axis=-1)

    def initial_memory(self, num_envs):
        return jnp.zeros(num_envs)


def check_estimates(agent, state, hypers):
    state, experience = jax.jit(agent.collect)(state, hypers)
    found = agent.estimate(state, hypers, experience)
    np.testing.assert_allclose(found.value[:, 0], [10, 20, 10, 20, 10], rtol=1e-6)
    np.testing.assert_allclose(found.target[:, 0], TARGETS, rtol=1e-6)


def test_a2c_has_the_values_of_true_next_observations():
    agent = a2c.make(a2c.Config(num_envs=1, num_steps=5), Chain())
    hypers = a2c.Hypers(gamma=GAMMA, gae_lambda=0.5)
    state = begin(agent, hypers, TASK)
    params = state.params._replace(critic={"params": {"rows": VALUES[:, None]}})
    check_estimates(agent, state._replace(params=params), hypers)


def linear(obs_weights, *others, normalized):
    """A layer of values; normalised observations are -1 and 1 instead of 0 and 1."""
    if normalized:
        obs_weights, bias = obs_weights / 2, obs_weights.sum() / 2
    kernel = jnp.array([*obs_weights, *others])[:, None]
    return {"kernel": kernel, "bias": jnp.array([bias if normalized else 0.0])}


def normalizing(state):
    """The state of an agent that normalises observations to -1 and 1."""
    moments = Moments(jnp.full(3, 0.5), jnp.full(3, 0.25), jnp.float32(9))
    return state._replace(normalizer=state.normalizer._replace(obs=moments))


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_ppo_has_the_values_of_true_next_observations(normalize_obs):
    config = ppo.Config(num_envs=1, num_steps=5, num_minibatches=1, normalize_obs=normalize_obs)
    agent = ppo.make(config, OneHotChain(), torso=Identity())
    hypers = ppo.Hypers(gamma=GAMMA, gae_lambda=0.5)
    state = begin(agent, hypers, TASK)
    critic = {"params": {"Dense_0": linear(VALUES, normalized=normalize_obs)}}
    state = state._replace(params=state.params._replace(critic=critic))
    check_estimates(agent, normalizing(state) if normalize_obs else state, hypers)


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_recurrent_ppo_has_the_values_of_true_next_observations_and_memories(normalize_obs):
    """A value is 9, 18 or 37, and the steps of the episode so far: 1, 2 or 3."""
    config = ppo_rnn.Config(num_envs=1, num_steps=5, num_minibatches=1, normalize_obs=normalize_obs)
    agent = ppo_rnn.make(config, OneHotChain(), torso=CountsSteps())
    hypers = ppo_rnn.Hypers(gamma=GAMMA, gae_lambda=0.5)
    state = begin(agent, hypers, TASK)
    head = linear(VALUES - jnp.arange(1.0, 4.0), 1.0, normalized=normalize_obs)
    state = state._replace(params={"params": state.params["params"] | {"Dense_0": head}})
    check_estimates(agent, normalizing(state) if normalize_obs else state, hypers)
