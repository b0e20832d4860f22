"""An algorithm that compiles in no time: its return is highest at one value of a hyperparameter."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import part_names
from purejaxrl.study.compare import Contender, Problem
from purejaxrl.validation import hyper


class Hypers(struct.PyTreeNode):
    rate: float = hyper(1.0, above=0)
    bonus: float = hyper(0.0, at_least=0)
    limit: float = hyper(jnp.inf, infinite=True)
    """The agent diverges at a higher rate."""
    table: Any = ()
    """Arrays that nothing reads."""


class State(NamedTuple):
    params: jax.Array
    task: Any
    key: jax.Array
    step: jax.Array


def make(peak: float) -> Algorithm:
    """Make an algorithm whose return is the level's, minus the squared log of rate / peak."""

    def init(key, hypers, task):
        return State(jnp.float32(0), task, key, jnp.int32(0))

    def learn(state, hypers, experience):
        distance = jnp.log(hypers.rate / peak) ** 2 + (hypers.bonus - 0.1) ** 2
        failed = jnp.where(hypers.rate > hypers.limit, jnp.nan, 0.0)
        metrics = {
            "return": state.task.env_params - distance,
            "episodes": jnp.int32(1),
            "env_steps": jnp.int32(1),
        }
        return state._replace(params=state.params + failed, step=state.step + 1), metrics

    return Algorithm(
        config=None,
        init=init,
        collect=lambda state, hypers: (state, ()),
        learn=learn,
        policy=lambda state: state.params,
        made_of=(f"peak at {peak:g}", *part_names(LEVELS.env, ONE_LEVEL.env)),
    )


class Levels:
    """An environment whose level is the return that can be reached."""

    def sample_level(self, key: jax.Array) -> jax.Array:
        return 1 + jax.random.uniform(key)


LEVELS = Problem("levels", Levels(), jnp.float32(0), optimum=lambda levels: levels)
ONE_LEVEL = Problem("one-level", object(), jnp.float32(3))


def contender(name: str, peak: float, grid: Any = None, **hypers: float) -> Contender:
    grid = {"rate": (0.1, 1.0, 10.0)} if grid is None else grid
    return Contender(name, make(peak), Hypers(**hypers), grid)
