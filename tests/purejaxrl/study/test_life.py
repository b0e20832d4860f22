"""Scores along life: parts, scales, and agents without a score."""

import numpy as np
import pandas as pd
import pytest

from purejaxrl.study import life
from purejaxrl.study.stats import final_scores

RNG = np.random.default_rng(0)


def metrics_of(num_updates=50, num_agents=4, **contenders):
    """Metrics as `compare` returns them: returns `[num_updates, num_agents]` by contender."""
    frames = []
    for name, returns in contenders.items():
        update, agent = np.indices((num_updates, num_agents)).reshape(2, -1)
        frames.append(pd.DataFrame({
            "update": update + 1, "member": agent, "episodes": 1 + update % 3,
            "return": np.broadcast_to(returns, (num_updates, num_agents)).ravel(),
            "alive": True, "contender": name, "rule": 0,
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def scores_of(metrics, env="ant", random=0.0):
    """The scores that `compare` and `with_random` return with these metrics."""
    frames = [
        pd.DataFrame({
            "env": env, "contender": name, "rule": 0, "agent": range(part["member"].max() + 1),
            "score": final_scores(part, fraction=0.2), "random": random, "own_level": False,
        })
        for name, part in metrics.groupby("contender", sort=False)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def test_the_last_fifth_of_life_is_the_score_of_a_comparison():
    metrics = metrics_of(PPO=RNG.normal(size=(50, 4)))
    found = life.by_part(metrics)
    last = found[found["part"] == 5].sort_values("agent")["score"]
    np.testing.assert_allclose(last, final_scores(metrics, fraction=0.2))


def test_a_part_has_the_mean_of_its_episodes():
    returns = np.arange(1.0, 11.0)[:, None]
    found = life.by_part(metrics_of(10, 1, PPO=returns), num_parts=2)
    weights = 1 + np.arange(10) % 3
    expected = [np.average(x, weights=w) for x, w in ((returns[:5, 0], weights[:5]),
                                                      (returns[5:, 0], weights[5:]))]  # fmt: skip
    assert found["part"].tolist() == [1, 2]
    np.testing.assert_allclose(found["score"], expected)


def test_contenders_whose_updates_are_longer_have_as_many_parts():
    long, short = metrics_of(50, 2, A2C=1.0), metrics_of(10, 2, PPO=2.0)
    found = life.by_part(pd.concat([long, short]))
    assert found.groupby("contender").size().to_dict() == {"A2C": 10, "PPO": 10}
    assert (found[found["contender"] == "PPO"]["score"] == 2).all()


def test_rules_whose_updates_are_longer_have_as_many_parts():
    long, short = metrics_of(50, 2, lpg=1.0), metrics_of(10, 2, lpg=2.0).assign(rule=1)
    found = life.by_part(pd.concat([long, short]))
    assert found.groupby("rule").size().to_dict() == {0: 10, 1: 10}
    assert (found[found["rule"] == 1]["score"] == 2).all()


def test_an_agent_without_a_score_is_worth_as_much_as_random_actions_on_its_level():
    metrics = metrics_of(PPO=1.0, A2C=1.0)
    metrics.loc[metrics["contender"] == "A2C", "return"] = np.nan
    scores = scores_of(metrics)
    scores["random"] = scores["agent"] * 0.1  # a mean of 0.15, so that 1 is 0.85 above it
    found = life.normalise(life.by_part(metrics).assign(env="ant"), scores, ["PPO"])
    means = found[found["contender"] == "A2C"].groupby("agent")["score"].mean()
    np.testing.assert_allclose(means, (np.arange(4) * 0.1 - 0.15) / 0.85)


def test_an_environment_whose_reference_is_not_above_a_random_policy_is_left_out(tmp_path):
    metrics = metrics_of(PPO=1 + 0.1 * RNG.normal(size=(50, 4)))
    parts = pd.concat([life.by_part(metrics).assign(env=name) for name in ("ant", "bee")])
    scores = pd.concat([scores_of(metrics, "ant"), scores_of(metrics, "bee", random=2.0)])
    table = life.report(parts, scores, ["PPO"], tmp_path)
    alone = life.tabulate(life.normalise(parts[parts["env"] == "ant"], scores, ["PPO"]))
    pd.testing.assert_frame_equal(table, alone)


def test_an_agent_that_diverged_or_finished_nothing_is_worth_as_much_as_random_actions():
    metrics = metrics_of(PPO=1.0, A2C=1.0)
    second, last = metrics["member"] == 1, metrics["update"] == 50
    metrics.loc[(metrics["contender"] == "A2C") & second & last, "alive"] = False
    early = (metrics["contender"] == "A2C") & (metrics["member"] == 2) & (metrics["update"] <= 10)
    metrics.loc[early, "return"] = np.nan
    parts = life.by_part(metrics).assign(env="ant")
    found = life.normalise(parts, scores_of(metrics), ["PPO"])
    means = found[found["contender"] == "A2C"].pivot(index="agent", columns="part", values="score")
    np.testing.assert_allclose(means.loc[0], 1)
    np.testing.assert_allclose(means.loc[1], 0)
    np.testing.assert_allclose(means.loc[2], [0, 1, 1, 1, 1])


def test_the_scale_is_that_of_whole_lives():
    """Random actions earn 20; the reference earns 20, 40, 60, 80 and 100 in its five parts."""
    rising = np.repeat(np.linspace(20, 100, 5), 10)[:, None]
    metrics = metrics_of(PPO=rising, mine=40.0)
    parts = life.by_part(metrics).assign(env="ant")
    table = life.tabulate(life.normalise(parts, scores_of(metrics, random=20.0), ["PPO"]))
    values = table.pivot(index="contender", columns="part", values="value")
    np.testing.assert_allclose(values.loc["PPO"], [0, 0.25, 0.5, 0.75, 1.0], atol=1e-12)
    np.testing.assert_allclose(values.loc["mine"], 0.25)
    with pytest.raises(ValueError, match="env: 'ant' is not valid; its reference, None, must"):
        life.normalise(parts, scores_of(metrics), ["DPO"])


def test_its_files_are_written(tmp_path):
    metrics = metrics_of(PPO=1 + 0.1 * RNG.normal(size=(50, 4)), A2C=RNG.normal(size=(50, 4)))
    parts = life.by_part(metrics).assign(env="ant")
    table = life.report(parts, scores_of(metrics), ["PPO"], tmp_path)
    assert len(table) == 10 and (table["low"] <= table["value"]).all()
    assert len(pd.read_csv(tmp_path / "life.csv")) == 10
    assert (tmp_path / "life.png").stat().st_size > 1000
