"""Lives of several lengths: scores are kept by content, and tables average over rules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from purejaxrl.algorithm import Task
from purejaxrl.meta.lifetime import train_and_play
from purejaxrl.running.devices import layout
from purejaxrl.study import horizons
from tests.helpers import init_rule
from tests.purejaxrl.meta.small import AGENT, ENV, HYPERS, INNER
from tests.purejaxrl.study.peak import LEVELS, contender


@pytest.fixture
def lived(monkeypatch):
    """Score a life by its horizon and rate, without training; returns the horizons that were."""
    lived = []

    def make_lives(algorithm, env, num_levels, num_episodes):
        def lives(hypers, keys, levels, horizon):
            lived.append(horizon)
            return jnp.full(num_levels, hypers.rate * horizon)

        return lives

    monkeypatch.setattr(horizons, "make_lives", make_lives)
    return lived


def scores(out, rates=(1.0,), lengths=(2, 3), peak=1.0, num_episodes=4):
    contenders = [contender("mine", peak, {}, rate=rate) for rate in rates]
    return horizons.score_lives(
        contenders, LEVELS, lengths, num_levels=2, num_episodes=num_episodes, out=out
    )


@pytest.mark.parametrize("num_devices", [1, 2])
def test_every_level_has_the_agent_that_its_key_trains_on_it_alone(num_devices, monkeypatch):
    devices = jax.devices()[:num_devices]
    monkeypatch.setattr(horizons, "layout", functools.partial(layout, devices=devices))
    hypers = HYPERS.agent.replace(rule=init_rule(jax.random.key(0), AGENT))
    keys = jax.random.split(jax.random.key(1), 3)
    levels = jax.vmap(ENV.sample_level)(jax.random.split(jax.random.key(2), 3))

    @jax.jit
    def alone(key, level, horizon):
        key, task = jax.tree.map(lambda x: x[None], (key, Task(level, horizon)))
        return train_and_play(INNER, ENV, key, hypers, task, None, num_episodes=2).ret.mean()

    lives = horizons.make_lives(INNER, ENV, 3, 2)
    for horizon in (1, 6):
        expected = [
            alone(keys[i], jax.tree.map(lambda x, i=i: x[i], levels), jnp.int32(horizon))
            for i in range(3)
        ]
        assert len(set(map(float, expected))) == 3
        np.testing.assert_allclose(lives(hypers, keys, levels, horizon), expected, rtol=1e-5)


def test_scores_are_kept_by_the_contenders_content(lived, tmp_path):
    for rate in (1.0, 2.0):
        np.testing.assert_allclose(
            scores(tmp_path, (rate,))["score"], rate * np.array([2, 2, 3, 3])
        )
    assert lived == [2, 3, 2, 3]
    scores(tmp_path)
    assert lived == [2, 3, 2, 3]  # all known
    scores(tmp_path, lengths=(3, 4))
    assert lived == [2, 3, 2, 3, 4]
    scores(tmp_path, lengths=(2,), num_episodes=5)
    assert lived == [2, 3, 2, 3, 4, 2]
    scores(tmp_path, lengths=(3,), peak=2.0)  # of another algorithm, with equal hyperparameters
    assert lived == [2, 3, 2, 3, 4, 2, 3]


def test_contenders_of_one_name_are_its_rules(lived, tmp_path):
    frame = scores(tmp_path, rates=(1.0, 3.0), lengths=(2,))
    assert frame["rule"].tolist() == [0, 0, 1, 1] and frame["agent"].tolist() == [0, 1, 0, 1]
    assert (frame["optimum"] >= 1).all()


def frame_of(score, optimum=np.nan):
    """Scores `[contenders, horizons, rules, levels]` of two contenders."""
    index = np.indices(score.shape).reshape(4, -1)
    return pd.DataFrame({
        "contender": np.array(["a", "b"])[index[0]], "rule": index[2],
        "horizon": np.array([5, 50])[index[1]], "agent": index[3], "score": score.ravel(),
        "optimum": np.broadcast_to(optimum, score.shape[3])[index[3]],
    })  # fmt: skip


def test_the_table_has_means_and_gains_over_the_first_contender():
    level = np.array([0.0, 10.0, 20.0])
    score = np.stack([[[level], [level + 1]], [[level + 2], [level + 4]]])
    table = horizons.tabulate(frame_of(score)).set_index(["contender", "horizon"])
    assert table["value"].to_dict() == {("a", 5): 10, ("a", 50): 11, ("b", 5): 12, ("b", 50): 14}
    gains = table[["gain_value", "gain_low", "gain_high"]]
    assert gains.loc["b"].to_numpy().tolist() == [[2, 2, 2], [3, 3, 3]]  # level by level
    assert table.loc[("a", 5), "low"] < 10 < table.loc[("a", 5), "high"]


def test_intervals_are_for_other_rules():
    """The rules of `b` differ, and all levels are alike: the table knows three numbers, not 60."""
    rule = np.array([1.0, 2.0, 6.0])
    score = np.stack([np.zeros(3), rule])[:, None, :, None] * np.ones((2, 2, 3, 20))
    table = horizons.tabulate(frame_of(score)).set_index(["contender", "horizon"])
    margin = stats.t.ppf(0.975, 2) * rule.std(ddof=1) / np.sqrt(3)
    for prefix in "", "gain_":
        low, high = table.loc[("b", 50), [f"{prefix}low", f"{prefix}high"]]
        np.testing.assert_allclose([low, high], [3 - margin, 3 + margin])
    assert table.loc[("a", 50), ["gain_low", "gain_high"]].tolist() == [0, 0]


def test_scores_are_fractions_of_the_optimum_without_lives_that_failed():
    score = np.ones((2, 2, 1, 3))
    score[1, 1, 0, 0] = np.nan
    table = horizons.tabulate(frame_of(score, np.array([2.0, 4.0, 0.0])))
    assert table["value"].tolist() == [0.375, 0.375, 0.375, 0.25]


@pytest.mark.parametrize("all_failed", [False, True])
def test_contenders_whose_agents_all_failed_are_shown_without_numbers(tmp_path, capsys, all_failed):
    score = np.full((2, 2, 1, 3), np.nan)
    score[0] = np.nan if all_failed else 7.0
    table = horizons.tabulate(frame_of(score))
    assert table["failed"].tolist() == ([3] * 4 if all_failed else [0, 0, 3, 3])
    assert table["value"].isna().sum() == (4 if all_failed else 2)
    horizons.report(frame_of(score), (10, 250), tmp_path)
    shown = capsys.readouterr().err
    assert "nan" not in shown and shown.count("7 [7, 7]") == (0 if all_failed else 2)


def test_the_report_writes_what_it_promises(lived, tmp_path):
    horizons.report(scores(tmp_path), (10, 250), tmp_path)
    for name in ("scores.csv", "table.csv", "horizons.png"):
        assert (tmp_path / name).stat().st_size > 50
