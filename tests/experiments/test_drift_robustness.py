"""The scores of `drift_robustness.py`: normalised by PPO at its best, averaged over step sizes."""

import numpy as np
import pandas as pd

from algos.rules.drift_worlds import HELD_OUT
from purejaxrl.study import suite


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
         "score": score, "random": RANDOM[env], "own_level": False, "failed": False}
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


def test_the_report_counts_failures_and_leaves_out_what_has_no_unit(experiment, tmp_path, capsys):
    """Freeway's PPO is no better than random actions; of lpo, two of four agents fail on `a`."""
    rates, rng = (1e-3, 1e-2), np.random.default_rng(0)
    scores = pd.DataFrame([
        {"env": env, "contender": name, "rule": 0, "agent": agent, "learning_rate": rate,
         "score": rng.uniform(1, 2), "random": {"a": 0.0, "b": 0.0, "Freeway": 9.0}[env],
         "own_level": False}
        for env in ("a", "b", "Freeway") for name in ("PPO", "lpo") for rate in rates
        for agent in range(4)
    ])  # fmt: skip
    failed = (scores["env"] == "a") & (scores["contender"] == "lpo") & (scores["agent"] < 2)
    scores.loc[failed & (scores["learning_rate"] == 1e-2), "score"] = np.nan
    experiment.report(scores, tmp_path)
    curves = pd.read_csv(tmp_path / "step_sizes.csv").set_index(["contender", "learning_rate"])
    assert curves["failed"].to_dict() == {
        ("PPO", 1e-3): 0, ("PPO", 1e-2): 0, ("lpo", 1e-3): 0, ("lpo", 1e-2): 2,
    }  # fmt: skip
    means = pd.read_csv(tmp_path / "environments.csv", index_col="contender")
    assert means.columns.tolist() == ["a", "b"] and set(means.index) == {"PPO", "lpo"}
    assert means.loc["PPO"].max() <= 1  # PPO at its best is 1
    assert set(pd.read_csv(tmp_path / "suite.csv")["contender"]) == {"PPO", "lpo"}
    assert (tmp_path / "step_sizes.png").stat().st_size > 1000
    assert "Freeway is left out" in capsys.readouterr().err
