"""The contract of an algorithm: what an update returns in a run is checked while it is traced."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from algos import ppo
from purejaxrl.algorithm import Algorithm
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run

FINE = {"env_steps": jnp.int32(1), "episodes": jnp.int32(1), "return": jnp.float32(1)}


class State(NamedTuple):
    """Of an algorithm that does nothing."""

    params: jax.Array
    task: object
    step: jax.Array


def returning(metrics) -> Algorithm:
    """An algorithm whose updates have these metrics."""
    return Algorithm(
        ppo.Config(),
        lambda key, hypers, task: State(jnp.zeros(1), task, jnp.int32(0)),
        lambda state, hypers: (state, ()),
        lambda state, hypers, experience: (state._replace(step=state.step + 1), metrics),
        lambda state: state.params,
    )


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"env_steps": 1}, "metrics of algos.ppo: episodes, return must be among them"),
        (FINE | {"loss": jnp.zeros(5)}, r"metrics of algos.ppo: 'loss' of shape \(5,\) .* scalar"),
    ],
)
def test_metrics_that_cannot_be_tabulated_are_named(metrics, message, tmp_path):
    options = RunOptions(str(tmp_path / "out"), progress=False)
    with pytest.raises(ValueError, match=message):
        run(returning(metrics), populate(seeds(2), ppo.Hypers(), ()), 3, options)


@pytest.mark.parametrize("name", ["member", "update", "seed", "gamma"])
def test_a_metric_does_not_replace_a_column_of_members(name, tmp_path):
    learner = returning(FINE | {name: jnp.float32(7)})
    who = populate([{"seed": 0, "gamma": 0.9}], ppo.Hypers(), ())
    with pytest.raises(ValueError, match=f"metric '{name}' is not a valid name"):
        run(learner, who, 2, RunOptions(str(tmp_path / "out"), progress=False))


def test_metrics_may_be_numbers_of_python(tmp_path):
    learner = returning({"env_steps": jnp.int32(1), "episodes": 1, "return": 2.5, "half": 0.5})
    options = RunOptions(str(tmp_path / "out"), progress=False)
    metrics = run(learner, populate(seeds(2), ppo.Hypers(), ()), 3, options).metrics
    assert metrics["half"].tolist() == [0.5] * 6 and metrics["return"].tolist() == [2.5] * 6
