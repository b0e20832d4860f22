"""A2C that also writes a replay buffer and draws from it, for tests of what is written in place."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from algos import a2c
from purejaxrl.algorithm import Algorithm, Task
from tests.helpers import ENV

CONFIG = a2c.Config(num_envs=2, num_steps=4, hidden=(4,))
WIDTH = 4  # of an observation of CartPole


class Replay(NamedTuple):
    """The last observations, and where the next one goes."""

    obs: jax.Array  # [capacity, WIDTH]
    cursor: jax.Array  # int32


class State(NamedTuple):
    """A2C's, and a buffer."""

    params: Any
    opt_state: Any
    interaction: Any
    task: Task
    key: jax.Array
    step: jax.Array
    replay: Replay


def make(capacity: int) -> Algorithm:
    """Make the learner; `capacity` is a multiple of the steps of an update."""
    inner = a2c.make(CONFIG, ENV)
    num_steps = inner.steps_per_update

    def init(key, hypers, task):
        replay = Replay(jnp.zeros((capacity, WIDTH)), jnp.int32(0))
        return State(**inner.init(key, hypers, task)._asdict(), replay=replay)

    def collect(state, hypers):
        state, experience = inner.collect(state, hypers)
        rows = experience.transitions.obs.reshape(num_steps, WIDTH)
        obs, cursor = state.replay
        obs = jax.lax.dynamic_update_slice(obs, rows, (cursor, 0))
        return state._replace(replay=Replay(obs, (cursor + num_steps) % capacity)), experience

    def learn(state, hypers, experience):
        draw_key, key = jax.random.split(state.key)
        drawn = state.replay.obs[jax.random.randint(draw_key, (8,), 0, capacity)].mean()
        hypers = hypers.replace(entropy_coef=hypers.entropy_coef + 0.01 * drawn)
        state, metrics = inner.learn(state._replace(key=key), hypers, experience)
        return state, metrics | {"drawn": drawn}

    return inner._replace(init=init, collect=collect, learn=learn, in_place=("replay",))
