"""Random keys are used once, in every algorithm, from its first state through two updates."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.key_reuse import _core as checker  # private: JAX may move it

from purejaxrl.algorithm import Task, update
from tests.algos.algorithms import ALGORITHMS, QUICK
from tests.helpers import mostly_slow


@pytest.fixture
def lenient_checker(monkeypatch):
    """Let JAX's checker follow keys through transposes, and take selected ones for new.

    It takes both for used. Agents under a vmap transpose their keys, and an agent whose life is
    over keeps its key by a selection.
    """
    transposed = checker.KeyReuseSignature(checker.Forward(0, 0))
    selected = checker.KeyReuseSignature(checker.Source(0))
    monkeypatch.setitem(checker.key_reuse_signatures, jax.lax.transpose_p, transposed)
    monkeypatch.setitem(checker.key_reuse_signatures, jax.lax.select_n_p, selected)


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, (*QUICK, "grpo", "groove", "paired")))
def test_no_key_is_used_twice(name, lenient_checker):
    """Keys are followed through the program; nothing is compiled."""
    algorithm, hypers, level = ALGORITHMS[name]()

    def live(key, level):
        state = algorithm.init(key, hypers, Task(level, jnp.int32(6)))
        for _ in range(2):  # not in a jitted function, out of which used keys would come as new
            state, _ = update(algorithm, state, hypers)
        return state

    with jax.debug_key_reuse(True):
        jax.jit(live).trace(jax.random.key(0), level)
