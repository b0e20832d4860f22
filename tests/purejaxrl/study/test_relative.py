"""Scores in units of a baseline's: the share of levels where a contender fails, and the mean."""

import numpy as np
import pandas as pd
import pytest

from purejaxrl.study import relative
from purejaxrl.study.stats import interval
from tests.purejaxrl.study.test_tables import scores_of

A2C = np.array([1.0, 2.0, 4.0, 0.0])
RULES = np.array([[0.7, 0.8], [2.0, 1.4], [4.0, 4.0], [0.0, 1.0]])


def related(**more):
    return relative.relate(scores_of(LPG=RULES, A2C=A2C, **more), "A2C")


def test_a_rule_fails_on_levels_where_it_earns_less_than_three_quarters():
    """The last level, where the baseline earns nothing, says nothing."""
    found = related(own_level=True)
    below = found.pivot(index="agent", columns="rule", values="share below").to_numpy()
    np.testing.assert_array_equal(below, [[1, 0], [0, 1], [0, 0], [np.nan, np.nan]])


def test_without_own_levels_a_rule_is_compared_with_the_baselines_mean():
    below = related().pivot(index="agent", columns="rule", values="share below").to_numpy()
    np.testing.assert_array_equal(below, 0.75 * A2C.mean() > RULES)


def test_the_relative_score_is_a_ratio_of_means():
    table = relative.tabulate(related(), "LPG")
    np.testing.assert_allclose(table["relative"], RULES.mean() / A2C.mean())
    assert "relative gain" not in table


def test_scores_are_fractions_of_the_optimum_where_it_is_known():
    optimum = np.array([2.0, 2.0, 8.0, 0.0])  # nothing can be earned on the last level
    table = relative.tabulate(related(optimum=optimum), "LPG")
    mean = lambda x: (x[:3] / optimum[:3].reshape(-1, *[1] * (x.ndim - 1))).mean()  # noqa: E731
    np.testing.assert_allclose(table["relative"], mean(RULES) / mean(A2C))


def test_the_interval_of_a_ratio_covers_it():
    """A rule that earns half of what A2C does, whatever the level, has no spread."""
    rng = np.random.default_rng(0)
    y = rng.uniform(1, 3, 16)
    exact = relative.ratio(0.5 * y[:, None], y)
    assert interval(exact) == pytest.approx((0.5, 0.5, 0.5))
    hits = 0
    for _ in range(400):
        y = rng.uniform(1, 3, 16)
        noisy = y[:, None] * rng.normal(0.5, 0.2, (16, 1))
        found = interval(relative.ratio(noisy, y))
        hits += found.low < 0.5 < found.high
    assert 0.91 < hits / 400 < 0.98


def test_differences_between_arms_have_intervals_for_other_rules():
    """The rules of an arm differ and the levels are alike: there are two scores, not eight."""
    random = np.ones((4, 1)) * [1.0, 3.0]
    regret = random + 1
    scores = scores_of(random=random, regret=regret, A2C=np.full(4, 2.0))
    table = relative.tabulate(relative.relate(scores, "A2C"), "random").set_index("contender")
    row = table.loc["regret"]
    expected = interval((regret[:, :, None] - random[:, None, :]) / 2)
    names = ("relative gain", "relative gain low", "relative gain high")
    np.testing.assert_allclose(row[list(names)].to_numpy(float), expected)
    assert row["relative gain low"] < 0 < row["relative gain high"]
    assert np.isnan(table.loc["random", "relative gain"])
    assert table.loc["random", "share below"] == 0.5


def test_scores_that_are_missing_are_left_out():
    scores = scores_of(LPG=[np.nan, 1.0], idle=[np.nan] * 2, A2C=[1.0, 1.0]).assign(alive=True)
    table = relative.tabulate(relative.relate(scores, "A2C"), "LPG").set_index("contender")
    assert table.loc["LPG", "relative"] == 1 and table.loc["LPG", "share below"] == 0
    assert np.isnan(table.loc["idle", "relative"]) and np.isnan(table.loc["idle", "share below"])


def test_an_agent_that_diverged_has_failed():
    scores = scores_of(LPG=[np.nan, 1.0], A2C=[1.0, 1.0])
    table = relative.tabulate(relative.relate(scores, "A2C"), "LPG").set_index("contender")
    assert table.loc["LPG", "share below"] == 0.5 and table.loc["LPG", "relative"] == 1


def test_an_environment_without_the_baseline_is_refused():
    scores = pd.concat([scores_of(LPG=[1.0], A2C=[1.0]), scores_of(env="there", LPG=[1.0])])
    with pytest.raises(ValueError, match="baseline: 'A2C' is not valid; it has no scores in there"):
        relative.relate(scores, "A2C")


def test_a_report_writes_its_files(tmp_path):
    scores = scores_of(random=RULES, regret=RULES + 1, A2C=A2C)
    table = relative.report(scores, "A2C", "random", tmp_path)
    assert (tmp_path / "relative.png").exists()
    written = pd.read_csv(tmp_path / "relative.csv")
    pd.testing.assert_frame_equal(written, table, rtol=1e-4, check_dtype=False)
