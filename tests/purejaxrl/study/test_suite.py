"""Suites of environments: normalised scores, interquartile means, and who is better."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from purejaxrl.study import suite
from purejaxrl.study.compare import Problem
from purejaxrl.study.stats import iqm_difference, iqm_interval
from tests.algos.probes import Params, Probe


def frame_of(own_level=False, random=0.0, **contenders):
    """Scores `[num_envs, num_agents, num_rules]` by contender, as `compare` returns them."""
    parts = []
    for name, scores in contenders.items():
        scores = np.asarray(scores, float)
        env, agent, rule = np.indices(scores.shape).reshape(3, -1)
        parts.append(pd.DataFrame({
            "env": np.array(["zoo", "ant", "bee", "cat"])[env], "contender": name, "rule": rule,
            "agent": agent, "score": scores.ravel(), "own_level": own_level, "random": random,
            "reference": 0.0,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


RNG = np.random.default_rng(0)
PPO = np.array([10.0, -80.0, 3.0, 0.5])[:, None, None] + 0.1 * RNG.normal(size=(4, 8, 1))


def test_a_random_policy_is_worth_0_and_the_reference_1():
    frame = frame_of(random=-100.0, PPO=PPO, mine=(PPO - 100) / 2)
    found = suite.normalise(frame, ["PPO"]).groupby(["contender", "env"])["score"].mean()
    np.testing.assert_allclose(found["PPO"], 1.0)
    np.testing.assert_allclose(found["mine"], 0.5)


def test_an_agent_without_a_score_is_worth_as_much_as_a_random_policy():
    mine = PPO.copy()
    mine[:, 0] = np.nan
    frame = suite.normalise(frame_of(random=-100.0, PPO=PPO, mine=mine), ["PPO"])
    mine = frame[frame["contender"] == "mine"]
    assert (mine.loc[mine["agent"] == 0, "score"] == 0).all()
    assert (mine.loc[mine["agent"] > 0, "score"] > 0.9).all()


def test_a_reference_is_worth_1_also_where_one_of_its_agents_has_no_score():
    ppo = PPO.copy()
    ppo[:, 0] = np.nan
    frame = suite.normalise(frame_of(random=-100.0, PPO=ppo, A2C=PPO), ["PPO"])
    found = frame.groupby(["contender", "env"])["score"].mean()
    np.testing.assert_allclose(found["PPO"], 1.0)
    assert (found["A2C"] > 1).all()


def test_the_interval_of_an_iqm_covers_it_where_the_reference_is_estimated():
    """Both contenders earn 1 in truth, in units that agents of the reference estimate."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        ppo, mine = 1 + 0.2 * rng.normal(size=(2, 4, 8, 1))
        table = suite.tabulate(suite.normalise(frame_of(PPO=ppo, mine=mine), ["PPO"]), "PPO")
        row = table.set_index("contender").loc["mine"]
        covered += row["iqm_low"] <= 1 <= row["iqm_high"]
    assert covered >= 0.92 * 300


def test_a_reference_that_an_environment_lacks_is_replaced_by_the_next():
    frame = frame_of(random=-100.0, PPO=PPO, A2C=PPO - 1.0)
    frame = frame[(frame["env"] != "cat") | (frame["contender"] != "PPO")]
    found = suite.normalise(frame, ["PPO", "A2C"]).groupby(["contender", "env"])["score"].mean()
    assert found["A2C", "cat"] == pytest.approx(1.0) and found["A2C", "zoo"] < 1
    with pytest.raises(ValueError, match="env: 'cat' is not valid; its reference, None, must"):
        suite.normalise(frame, ["PPO"])


def test_a_reference_below_a_random_policy_is_refused():
    with pytest.raises(ValueError, match="env: 'ant' .* reference, PPO, must have a mean score"):
        suite.normalise(frame_of(PPO=PPO), ["PPO"])


def test_an_environment_whose_reference_is_not_above_a_random_policy_is_left_out(capsys):
    found = suite.comparable(frame_of(PPO=PPO, A2C=PPO), ["PPO"])  # ant's is negative
    assert found["env"].unique().tolist() == ["zoo", "bee", "cat"] and len(found) == 2 * 3 * 8
    assert "ant is left out: env: 'ant' is not valid; its reference" in capsys.readouterr().err
    with pytest.raises(ValueError, match="env: 'ant' .* reference, PPO, must have a mean score"):
        suite.comparable(frame_of(PPO=PPO[1:2]).assign(env="ant"), ["PPO"])


def test_the_table_has_interquartile_means_and_differences_from_the_baseline():
    x, y = 0.5 + RNG.normal(size=(4, 6, 3)), RNG.normal(size=(4, 6, 1))
    table = suite.tabulate(frame_of(A2C=y, mine=x), "A2C").set_index("contender")
    assert list(table.index) == ["mine", "A2C"] and table["rules"].tolist() == [3, 1]
    for name, expected in (("iqm", iqm_interval(x)), ("gain", iqm_difference(x, y))):
        found = table.loc["mine", [name, f"{name}_low", f"{name}_high"]].astype(float)
        np.testing.assert_allclose(found, expected)
    wins = np.mean([(x[e][:, None, :] > y[e][None]).mean() for e in range(4)])
    assert table.loc["mine", "wins"] == pytest.approx(wins)
    assert 0 <= table.loc["mine", "wins_low"] < wins < table.loc["mine", "wins_high"] <= 1
    assert np.isnan(table.loc["A2C", "gain"])


def test_where_agents_have_levels_of_their_own_they_are_compared_level_by_level():
    level = 10 * RNG.normal(size=(4, 6, 1))
    frame = frame_of(own_level=True, A2C=level, mine=level + 0.1)
    assert suite.probability_of_improvement(frame, "mine", "A2C") == (1.0, 1.0, 1.0)
    anyone = suite.probability_of_improvement(frame.assign(own_level=False), "mine", "A2C")
    assert anyone.value < 0.7


def test_a_contender_that_was_not_tested_everywhere_is_refused():
    frame = frame_of(A2C=PPO, mine=PPO[:3])
    with pytest.raises(ValueError, match=r"contender: 'mine' is not valid; .* none in \['cat'\]"):
        suite.tabulate(frame, "A2C")


@pytest.mark.parametrize("own_level", [False, True])
def test_random_scores_are_those_of_uniformly_random_actions(own_level):
    """An episode of n steps is paid 1 a step for one of two actions: n / 2 on average."""
    env = Probe(lambda state, action: action)
    if own_level:
        env.sample_level = lambda key: Params(length=jnp.int32(4), max_steps_in_episode=9)
    problem = Problem("probe", env, Params(length=4, max_steps_in_episode=9))
    found = suite.random_scores(problem, num_agents=3, num_episodes=400)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, 2.0, atol=4 / np.sqrt(400))  # four standard errors
    assert len(set(found)) == (3 if own_level else 1)
    scores = suite.with_random(pd.DataFrame({"agent": [2, 0, 2]}), problem, num_episodes=400)
    assert scores["random"].tolist() == found[[2, 0, 2]].tolist()


def test_the_report_writes_what_it_promises(tmp_path, capsys):
    frame = frame_of(random=-100.0, PPO=PPO, A2C=PPO - 1, mine=PPO + RNG.normal(size=(4, 8, 3)))
    suite.report(frame, ["PPO"], "A2C", tmp_path)
    assert (tmp_path / "suite.png").stat().st_size > 1000
    assert pd.read_csv(tmp_path / "environments.csv").columns.tolist() == [
        "contender", "zoo", "ant", "bee", "cat",
    ]  # fmt: skip
    assert len(pd.read_csv(tmp_path / "suite.csv")) == 3
    assert "4 environments" in capsys.readouterr().err


def test_the_report_can_be_about_greedy_scores_and_says_which_it_is_about(tmp_path, capsys):
    frame = frame_of(random=-100.0, PPO=PPO, A2C=PPO - 1)
    by_greedy = frame.assign(score=np.nan, greedy=frame["score"])
    suite.report(frame, ["PPO"], "A2C", tmp_path / "sampled")
    suite.report(by_greedy, ["PPO"], "A2C", tmp_path / "greedy", column="greedy")
    tables = [(tmp_path / name / "suite.csv").read_text() for name in ("sampled", "greedy")]
    assert tables[0] == tables[1]
    said = " ".join(capsys.readouterr().err.split())
    assert "of sampled actions in the last fifth" in said and "most likely actions" in said
