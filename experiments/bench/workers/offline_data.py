"""The dataset on which offline algorithms are timed: random actions on Pendulum."""

import jax

import envs
from purejaxrl.offline.record import record
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.rollout import uniform
from purejaxrl.parts.wrappers import for_network

ENV, ENV_PARAMS = envs.make("Pendulum-v1")
ENV = for_network(ENV)


def make_dataset() -> Dataset:
    """Record 100,000 steps."""
    key, sizes = jax.random.key(0), {"num_steps": 10_000, "num_envs": 10}
    return jax.jit(lambda: record(key, ENV, ENV_PARAMS, uniform(ENV), **sizes))()
