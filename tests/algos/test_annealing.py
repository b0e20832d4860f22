"""Step sizes that fall to zero: updates pass the agent's age to its optimizer."""

import jax
import jax.numpy as jnp
import pytest

from algos import dynamics_ensemble
from purejaxrl.algorithm import Task, update
from tests.algos.algorithms import ALGORITHMS, on_dataset
from tests.helpers import assert_equal, begin, mostly_slow

ANNEALED = {name: ALGORITHMS[name] for name in ("ppo", "ppo_rnn", "pqn", "sft")} | {
    "trajectory diffusion": ALGORITHMS["trajectory diffusion"],
    "dynamics ensemble": lambda: on_dataset(dynamics_ensemble),
}


@pytest.mark.parametrize("name", mostly_slow(ANNEALED, ("ppo", "ppo_rnn", "pqn")))
def test_at_the_end_of_life_an_agent_stands_still_and_before_it_does_not(name):
    agent, hypers, level = ANNEALED[name]()
    state = begin(agent, hypers, Task(level, jnp.int32(6)))
    learned = lambda state: getattr(state, "ensemble", state).params  # noqa: E731
    learn_at = jax.jit(lambda step: learned(update(agent, state._replace(step=step), hypers)[0]))
    assert_equal(learn_at(jnp.int32(6)), learned(state))
    moved = jax.tree.map(lambda a, b: (a != b).any(), learn_at(jnp.int32(1)), learned(state))
    assert any(jax.tree.leaves(moved))
