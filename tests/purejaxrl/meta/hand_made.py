"""Evolution on agents that are made by hand, whose fitness is known."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm
from purejaxrl.meta import evolution
from purejaxrl.meta.worlds import World
from purejaxrl.ued.curriculum import uniform
from tests.algos.probes import Params, Probe

DIMS = 3
GOAL = jnp.array([1.0, -0.5, 0.25])
ENV = Probe(lambda state, action: action[0], continuous=True)  # one step, which pays its action
CONFIG = evolution.Config(num_pairs=8, group=4, num_episodes=1)
HYPERS = evolution.Hypers(std=0.1)


class Life(NamedTuple):
    params: jax.Array
    task: Any
    step: jax.Array


class Settings(NamedTuple):
    batch_size: int = 1


def by_hand(worth) -> Algorithm:
    """Agents that only count their updates, and earn `worth(θ, task, updates)`."""

    def learn(state, hypers, _):
        return state._replace(step=state.step + 1), {}

    return Algorithm(
        Settings(),
        init=lambda key, hypers, task: Life(hypers, task, jnp.int32(0)),
        collect=lambda state, hypers: (state, ()),
        learn=learn,
        policy=lambda state: worth(state.params, state.task, state.step),
        act=lambda policy, memory, obs, *_: (jnp.full((len(obs), 1), policy), memory),
        steps_per_update=1,
    )


def quadratic(theta, task, age):
    return -((theta - GOAL) ** 2).sum()


def level(key):
    return Params(length=jax.random.randint(key, (), 1, 1000), max_steps_in_episode=1)


def lifetime(key):
    return jax.random.randint(key, (), 1, 30)


def life_of(length):
    return lambda key: jnp.int32(length)


def make(worth=quadratic, config=CONFIG, **options):
    lives = {"curriculum": uniform(level), "sample_lifetime": lifetime}
    lives |= {name: options.pop(name) for name in options.keys() & lives}
    return evolution.make(
        config,
        World("hand", by_hand(worth), ENV, **lives),
        **{"init_theta": lambda key: jnp.zeros(DIMS), "insert": lambda theta, hypers: theta}
        | options,
    )
