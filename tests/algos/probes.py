"""Probe environments: each is solvable only if one thing about an algorithm is right."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl.algorithm import Algorithm, make_train


@struct.dataclass
class State(environment.EnvState):
    cue: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 1
    length: int = 1  # steps after which an episode terminates


class Probe(environment.Environment):
    """A cue in {-1, 1}; the reward is `reward(state, action)`; the cue may be shown only once."""

    def __init__(self, reward, show_always: bool = True, continuous: bool = False):
        super().__init__()
        self.reward, self.show_always, self.continuous = reward, show_always, continuous

    @property
    def default_params(self) -> Params:
        return Params()

    def reset_env(self, key, params):
        cue = 2 * jax.random.bernoulli(key).astype(jnp.int32) - 1
        state = State(time=jnp.int32(0), cue=cue)
        return self.get_obs(state), state

    def step_env(self, key, state, action, params):
        reward = self.reward(state, action).astype(jnp.float32)
        state = state.replace(time=state.time + 1)
        return self.get_obs(state), state, reward, state.time >= params.length, {}

    def get_obs(self, state, params=None, key=None):
        shown = self.show_always | (state.time == 0)
        return jnp.stack([state.cue * shown, 1.0])

    def is_truncated(self, state, params):
        return (state.time >= params.max_steps_in_episode) & (state.time < params.length)

    def action_space(self, params=None):
        return spaces.Box(-2.0, 2.0, (1,)) if self.continuous else spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (2,))


def pay_one(state, action):
    return jnp.float32(1)


def assert_bootstraps_only_where_truncated(agent: Algorithm, hypers: Any, num_updates: int):
    """With γ = 1/2 and `pay_one`, the value `q` of an action that terminates is 1, others' is 2."""
    train = jax.jit(make_train(agent, num_updates))
    truncated = Params(length=100, max_steps_in_episode=1)
    for level, value in ((Params(length=1), 1.0), (truncated, 2.0)):
        _, metrics = train(jax.random.key(0), hypers, level)
        np.testing.assert_allclose(metrics["q"][-1], value, atol=0.1)
