"""A population small enough for tests, and how to compare what runs leave."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import envs
from algos import lpg, ppo
from purejaxrl.algorithm import Algorithm, Task, make_train
from purejaxrl.running.population import Population, populate, seeds
from purejaxrl.running.result import Result
from purejaxrl.running.runner import RunOptions, run

CONFIG = ppo.Config(num_envs=2, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(8,))
ENV, ENV_PARAMS = envs.make("CartPole-v1")
PPO = ppo.make(CONFIG, ENV)


init_rule = jax.jit(lpg.init_rule, static_argnames="config")
"""Compiled: step by step, every operation is a program."""


def mostly_slow(values: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Values of a test's parameter; all but the quick ones are marked slow."""
    return [x if x in quick else pytest.param(x, marks=pytest.mark.slow) for x in values]


def population(members: int = 4, **hypers: float) -> Population:
    return populate(seeds(members), ppo.Hypers(**hypers), ENV_PARAMS)


def run_options(out: Path, **options: Any) -> RunOptions:
    """Options of a short run that saves often and prints nothing."""
    return RunOptions(str(out), **{"chunk": 2, "checkpoint_every": 1, "progress": False} | options)


def train(out: Path, num_updates: int, members: int = 4, **options) -> Result:
    """Run the tiny population; options of `run` and of `RunOptions` alike."""
    of_run = {
        k: options.pop(k)
        for k in ("horizon", "devices", "sinks", "evaluator", "command")
        if k in options
    }
    who = options.pop("population", None) or population(members)
    return run(PPO, who, num_updates, run_options(out, **options), **of_run)


def whole_and_resumed(
    out: Path, algorithm: Algorithm, who: Population, num_updates: int, stop: int, **options
) -> tuple[Result, Result]:
    """A run, and the same run stopped at an update and resumed."""

    def one(folder: str, updates: int, **more) -> Result:
        chosen = run_options(out / folder, **options, **more)
        return run(algorithm, who, updates, chosen, horizon=num_updates)

    whole = one("whole", num_updates)
    one("parts", stop)
    return whole, one("parts", num_updates, resume=True)


def begin(algorithm: Algorithm, hypers: Any, task: Task | None = None, seed: int = 0) -> Any:
    """The state at the beginning, compiled: step by step, every operation is a program."""
    return jax.jit(lambda: algorithm.init(jax.random.key(seed), hypers, task))()


def assert_members_differ_and_are_as_alone(
    algorithm: Algorithm, hypers: Any, level: Any, kept: Callable[[Any], Any]
) -> None:
    """Assert it of two members after three updates, of all leaves of `kept(state)`."""
    train, keys = make_train(algorithm, 3), jax.random.split(jax.random.key(0), 2)
    together, _ = jax.jit(jax.vmap(train, in_axes=(0, None, None)))(keys, hypers, level)
    alone, _ = jax.jit(train)(keys[1], hypers, level)
    for x, y in zip(*map(jax.tree.leaves, (kept(together), kept(alone))), strict=True):
        assert (x[0] != x[1]).any()
        np.testing.assert_allclose(x[1], y, atol=1e-4)


def planned_memory(learner: Algorithm, hypers) -> int:
    """Bytes that XLA plans for the intermediate results of a meta-learner's step."""
    state = jax.eval_shape(lambda: learner.init(jax.random.key(0), hypers, None))
    program = jax.jit(learner.learn).lower(state, hypers, ()).compile()
    return program.memory_analysis().temp_size_in_bytes


def arrays(tree) -> list[np.ndarray]:
    """Leaves as NumPy arrays, typed keys as their data."""
    return [
        np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
                   else x) for x in jax.tree.leaves(tree)
    ]  # fmt: skip


def assert_equal(a, b) -> None:
    """Assert that two trees are equal bit for bit."""
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)
