import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from purejaxrl.study.stats import (
    Estimate,
    crossed_interval,
    final_scores,
    interval,
    iqm,
    probability_of_improvement,
)


def frame_of(rows):
    return pd.DataFrame(rows, columns=["member", "update", "return", "episodes"])


@pytest.mark.parametrize("size", [1, 3, 4, 8, 13, 100])
def test_iqm_is_the_mean_of_the_middle_half(size):
    scores = np.random.default_rng(size).normal(size=size)
    cut = size // 4
    by_hand = np.sort(scores)[cut : size - cut].mean()
    np.testing.assert_allclose(iqm(scores), by_hand)
    np.testing.assert_allclose(iqm(scores), scipy_stats.trim_mean(scores, 0.25))


def test_iqm_ignores_outliers_and_pools_or_keeps_an_axis():
    assert iqm(np.array([-1e9, 1.0, 3.0, 1e9])) == 2.0
    scores = np.array([[0.0, 1.0, 3.0, 90.0], [5.0, 5.0, 7.0, 7.0]])
    np.testing.assert_allclose(iqm(scores, axis=1), [2.0, 6.0])
    np.testing.assert_allclose(iqm(scores), (3.0 + 5.0 + 5.0 + 7.0) / 4)


@pytest.mark.parametrize("statistic", [np.mean, np.median, iqm])
def test_interval_covers_the_centre_of_a_normal_as_often_as_it_says(statistic):
    rng = np.random.default_rng(0)
    found = [
        interval(rng.normal(3.0, 2.0, size=30), statistic=statistic, num_resamples=300)
        for _ in range(200)
    ]
    covered = np.mean([e.low <= 3.0 <= e.high for e in found])
    assert 0.88 <= covered <= 0.99  # a percentile bootstrap of 30 covers a little less than 95 %


def test_interval_of_the_mean_is_near_the_normal_one():
    scores = np.random.default_rng(1).normal(size=400)
    estimate = interval(scores, confidence=0.9)
    half = 1.645 * scores.std(ddof=1) / 20
    assert estimate.value == pytest.approx(scores.mean())
    assert estimate.low == pytest.approx(scores.mean() - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(scores.mean() + half, abs=0.15 * half)


def test_interval_is_repeatable_and_grows_with_confidence():
    scores = np.random.default_rng(2).normal(size=20)
    narrow, wide = interval(scores, confidence=0.5), interval(scores, confidence=0.99)
    assert narrow == interval(scores, confidence=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_interval_resamples_within_tasks():
    # Each task has no spread of its own: only resampling across tasks would widen the interval.
    estimate = interval(np.full(5, 0.0), np.full(3, 8.0))
    assert estimate == Estimate(3.0, 3.0, 3.0)


def test_interval_of_single_runs_is_a_point():
    assert interval([2.0]) == Estimate(2.0, 2.0, 2.0)
    assert interval([2.0], [4.0]) == Estimate(3.0, 3.0, 3.0)


@pytest.mark.parametrize("samples", [([],), ([1.0, np.nan],), ([1.0, 2.0], [])])
def test_interval_refuses_empty_samples_and_nan(samples):
    with pytest.raises(ValueError, match=f"sample {len(samples) - 1}: .* is not valid"):
        interval(*samples)


def test_crossed_interval_of_one_rule_is_the_interval_over_levels():
    scores = np.random.default_rng(3).normal(size=50)
    np.testing.assert_allclose(crossed_interval(scores[:, None]), interval(scores), atol=0.05)
    assert crossed_interval(scores[:, None]).value == pytest.approx(scores.mean())


def test_crossed_interval_covers_new_rules_and_new_levels():
    # Scores are a level's part plus a rule's: an interval over levels alone would miss the rules'.
    rng, found, alone = np.random.default_rng(4), [], []
    for _ in range(200):
        scores = rng.normal(size=(40, 1)) + rng.normal(size=(1, 20))
        found.append(crossed_interval(scores, num_resamples=300))
        alone.append(interval(scores.mean(axis=1), num_resamples=300))
    assert 0.88 <= np.mean([e.low <= 0 <= e.high for e in found]) <= 0.99
    assert np.mean([e.low <= 0 <= e.high for e in alone]) < 0.8


def test_crossed_interval_resamples_whole_entries():
    # All of a rule's scores are alike: resampling single scores would give a narrow interval.
    scores = np.broadcast_to([0.0, 1.0], (100, 2))
    assert crossed_interval(scores) == Estimate(0.5, 0.0, 1.0)
    assert crossed_interval(scores[:, :, None] * np.ones(3)) == Estimate(0.5, 0.0, 1.0)


def test_crossed_interval_leaves_out_what_is_not_there():
    scores = np.array([[1.0, np.nan], [3.0, 4.0], [5.0, 8.0]])
    found = crossed_interval(scores, present=np.isfinite(scores))
    assert found.value == np.nanmean(scores) and 1.0 <= found.low < found.high <= 8.0
    alone = np.array([[2.0, np.nan]])  # half of the resamples hold no score
    assert crossed_interval(alone, present=np.isfinite(alone)) == Estimate(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="scores: .* is not valid"):
        crossed_interval(scores, present=np.zeros(scores.shape, bool))


@pytest.mark.parametrize("scores", [np.zeros((3, 0)), np.array([[1.0, np.nan]])])
def test_crossed_interval_refuses_no_scores_and_nan(scores):
    with pytest.raises(ValueError, match="scores: .* is not valid"):
        crossed_interval(scores)


def test_estimate_reads_well():
    assert str(Estimate(1.23456, 0.5, 20000.0)) == "1.235 [0.5, 2e+04]"


def test_probability_of_improvement_closed_cases():
    low, high = np.arange(5.0), np.arange(5.0) + 10
    assert probability_of_improvement(high, low) == Estimate(1.0, 1.0, 1.0)
    assert probability_of_improvement(low, high) == Estimate(0.0, 0.0, 0.0)
    assert probability_of_improvement(np.ones(4), np.ones(6)) == Estimate(0.5, 0.5, 0.5)
    assert probability_of_improvement([1.0, 3.0], [2.0]).value == 0.5
    assert probability_of_improvement([2.0, 3.0], [1.0, 2.0]).value == (3 + 0.5) / 4


def test_probability_of_improvement_swapped_is_the_complement():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 6, size=(3, 7)).astype(float)  # integers, so that there are ties
    y = rng.integers(0, 6, size=(3, 5)).astype(float)
    there, back = probability_of_improvement(x, y), probability_of_improvement(y, x)
    assert there.value == pytest.approx(1 - back.value)
    assert there.low <= there.value <= there.high
    assert there == probability_of_improvement(x, y)


def test_probability_of_improvement_is_that_of_mann_whitney_averaged_over_tasks():
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.5, 1, size=(2, 9)), rng.normal(size=(2, 6))
    by_task = [scipy_stats.mannwhitneyu(a, b).statistic / 54 for a, b in zip(x, y, strict=True)]
    assert probability_of_improvement(x, y).value == pytest.approx(np.mean(by_task))


def test_probability_of_improvement_refuses_different_tasks():
    with pytest.raises(ValueError, match="as many tasks: 2 and 3"):
        probability_of_improvement(np.zeros((2, 4)), np.zeros((3, 4)))


def test_final_scores_weighs_by_episodes_and_skips_updates_without_any():
    frame = frame_of(
        [
            (0, 9, 10.0, 1),
            (0, 10, 40.0, 3),
            (0, 11, np.nan, 0),
            (1, 9, np.nan, 0),
            (1, 10, 7.0, 2),
            (1, 11, np.nan, 0),
        ]
    )
    np.testing.assert_allclose(final_scores(frame, fraction=0.3), [(10 + 3 * 40) / 4, 7.0])


def test_final_scores_reads_only_the_last_part_of_the_metric_asked_for():
    frame = frame_of([(0, u, float(u), 1) for u in range(1, 21)]).assign(length=5.0)
    np.testing.assert_allclose(final_scores(frame), [19.5])  # updates 19 and 20 of 20
    np.testing.assert_allclose(final_scores(frame, fraction=1.0), [10.5])
    np.testing.assert_allclose(final_scores(frame, "length"), [5.0])


def test_final_scores_of_a_member_without_episodes_is_nan_in_its_place():
    frame = frame_of([(0, 1, 2.0, 1), (1, 1, np.nan, 0), (2, 1, 4.0, 1)])
    np.testing.assert_array_equal(final_scores(frame), [2.0, np.nan, 4.0])
