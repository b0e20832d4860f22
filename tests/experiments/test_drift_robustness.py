"""The scores of `drift_robustness.py`: normalised by PPO at its best, averaged over step sizes."""

import importlib
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from algos.rules.drift_worlds import HELD_OUT
from purejaxrl.study import suite

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    yield importlib.import_module("drift_robustness")
    sys.modules.pop("drift_robustness")  # other tests run the file anew


def test_no_drift_is_trained_where_it_is_tested(experiment):
    assert {*experiment.Settings().envs} <= {*HELD_OUT}


SCORES = {  # by environment and contender: [step sizes, agents]
    ("a", "PPO"): [[4.0, 6.0], [1.0, 3.0]],
    ("a", "lpo"): [[3.0, 3.0], [5.0, 5.0]],
    ("b", "PPO"): [[-30.0, -30.0], [-20.0, -20.0]],
    ("b", "lpo"): [[-40.0, -40.0], [-10.0, -10.0]],
}
RANDOM = {"a": 1.0, "b": -40.0}


def test_scores_are_normalised_by_ppo_at_the_best_step_size_of_each_environment(experiment):
    scores = pd.DataFrame([
        {"env": env, "contender": name, "rule": 0, "agent": agent, "learning_rate": rate,
         "score": score, "random": RANDOM[env], "own_level": False}
        for (env, name), by_rate in SCORES.items()
        for rate, of_agents in zip((1e-3, 1e-2), by_rate, strict=True)
        for agent, score in enumerate(of_agents)
    ])  # fmt: skip
    added = experiment.with_reference(scores)
    best = added[added["contender"] == experiment.REFERENCE].set_index("env")
    assert best["score"].to_dict() == {"a": 6.0, "b": -20.0} and len(best) == 4
    assert best["learning_rate"].groupby("env").unique().to_dict() == {"a": [1e-3], "b": [1e-2]}
    normalised = suite.normalise(added, [experiment.REFERENCE])
    found = experiment.by_step_size(normalised).set_index(["contender", "learning_rate"])["value"]
    np.testing.assert_allclose(found["PPO"], [(1 + 0.5) / 2, (0.25 + 1) / 2])
    np.testing.assert_allclose(found["lpo"], [(0.5 + 0) / 2, (1 + 1.5) / 2])
