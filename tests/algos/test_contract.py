"""The contract, for every algorithm: a state keeps its types, and metrics are scalars."""

import jax
import jax.numpy as jnp
import pytest

from algos import a2c, disco, dqn, lpg, lpo, ppo, ppo_rnn, pqn, sac, td3
from purejaxrl.algorithm import Task, update
from tests.algos.algorithms import ALGORITHMS, GRID, PPO, QUICK
from tests.helpers import mostly_slow


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, QUICK))
def test_an_update_keeps_the_types_of_the_state_and_returns_scalar_metrics(name):
    """Then it can be scanned, and it compiles once."""
    algorithm, hypers, level = ALGORITHMS[name]()

    def begin():
        return algorithm.init(jax.random.key(0), hypers, Task(level, jnp.int32(6)))

    before = jax.eval_shape(begin)
    after, metrics = jax.eval_shape(lambda state: update(algorithm, state, hypers), before)
    old, new = (jax.tree_util.tree_leaves_with_path(state) for state in (before, after))
    changed = [
        (jax.tree_util.keystr(path), x, y)
        for (path, x), (_, y) in zip(old, new, strict=True)
        if (x.shape, x.dtype, x.weak_type) != (y.shape, y.dtype, y.weak_type)
    ]
    assert not changed
    assert {"env_steps", "episodes", "return"} <= metrics.keys()
    assert all(x.shape == () for x in metrics.values())
    assert metrics["env_steps"].dtype == jnp.int32
    assert {"task", "key", "step"} <= set(before._fields)
    assert ("interaction" in before._fields) == (algorithm.num_envs is not None)


@pytest.mark.parametrize("module", [ppo, ppo_rnn, lpo], ids=lambda module: module.__name__)
def test_observations_that_only_tables_can_read_are_refused_by_networks(module):
    with pytest.raises(
        ValueError, match=r"observation_space: Dict\(row, time\) is not valid; .*Box"
    ):
        module.make(module.Config(**PPO), GRID)


@pytest.mark.parametrize(
    "module",
    [a2c, disco, dqn, lpg, ppo, ppo_rnn, pqn, sac, td3],
    ids=lambda module: module.__name__,
)
@pytest.mark.parametrize("hidden", [[4], (4.5,), (True,), "44", 8], ids=repr)
def test_widths_that_are_not_a_tuple_of_integers_are_refused(module, hidden):
    with pytest.raises(ValueError, match=r"Config\.hidden: .* is not valid; .*tuple"):
        module.Config(hidden=hidden)
