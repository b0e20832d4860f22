import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from purejaxrl.study.stats import (
    Estimate,
    bootstrap_interval,
    final_scores,
    interval,
    iqm,
    iqm_difference,
    iqm_interval,
    probability_of_improvement,
    suite_interval,
    variance_parts,
)
from tests.helpers import mostly_slow


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


def coverage(estimates, truth=0.0):
    return np.mean([e.low <= truth <= e.high for e in estimates])


SKEWED = np.exp(0.125)  # the mean of exp(x / 2) for a standard normal x


@pytest.mark.parametrize("size", mostly_slow([3, 4, 8, 30], {3, 4}))
def test_an_interval_of_few_runs_covers_the_mean_as_often_as_it_says(size):
    """A percentile bootstrap of four normal scores covers 0.80, of eight 0.88."""
    scores = np.random.default_rng(size).normal(size=(1000, size))
    assert 0.93 <= coverage(map(interval, scores)) <= 0.97
    assert 0.89 <= coverage(map(interval, np.exp(scores / 2)), SKEWED) <= 0.97


def test_the_interval_of_one_axis_is_the_t_interval():
    scores = np.random.default_rng(1).normal(size=5)
    expected = scipy_stats.ttest_1samp(scores, 0).confidence_interval(0.9)
    np.testing.assert_allclose(interval(scores, confidence=0.9)[1:], expected)
    np.testing.assert_allclose(interval(scores[:, None], confidence=0.9)[1:], expected)


def test_an_interval_ends_where_values_do():
    assert interval([0.0, 1.0, 1.0], bounds=(0.0, 1.0)) == Estimate(2 / 3, 0.0, 1.0)


def test_the_interval_of_a_single_run_is_a_point():
    assert interval([2.0]) == Estimate(2.0, 2.0, 2.0)
    assert interval([[2.0]]) == Estimate(2.0, 2.0, 2.0)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], np.zeros((3, 0)), [[1.0, np.nan]]])
def test_an_interval_refuses_no_scores_and_nan(scores):
    with pytest.raises(ValueError, match="scores: .* is not valid"):
        interval(scores)


@pytest.mark.parametrize("by_agent", [0.0, 1.0])
@pytest.mark.parametrize("by_rule", [0.0, 1.0])
@pytest.mark.parametrize("shape", mostly_slow([(16, 3), (16, 6), (64, 3)], {(16, 3)}))
def test_a_crossed_interval_covers_new_rules_and_new_agents(shape, by_rule, by_agent):
    """All scores taken for independent runs cover 0.24 to 0.54 where rules differ."""
    rng, found = np.random.default_rng(4), []
    for _ in range(400):
        rules, agents = rng.normal(size=shape[1]), rng.normal(size=(shape[0], 1))
        found.append(interval(by_rule * rules + by_agent * agents + rng.normal(size=shape)))
    assert coverage(found) >= 0.9


def test_the_parts_of_the_variance_sum_up_to_that_of_the_mean():
    """The variances that agents, rules and their interaction add to the mean are known."""
    rng, total = np.random.default_rng(5), []
    for _ in range(2000):
        rules, agents = rng.normal(size=4), 2 * rng.normal(size=(5, 1))
        parts = variance_parts([rules + agents + 3 * rng.normal(size=(5, 4))], 0)
        total.append(sum((-1) ** (part.num_axes + 1) * part.variance for part in parts))
    assert np.mean(total) == pytest.approx(1 / 4 + 4 / 5 + 9 / 20, rel=0.05)


def test_two_rules_say_hardly_anything_about_a_third():
    scores = np.broadcast_to([0.0, 1.0], (100, 2))
    expected = scipy_stats.t.ppf(0.975, 1) * 0.5
    assert interval(scores).high == pytest.approx(0.5 + expected)


def test_a_crossed_interval_leaves_out_what_is_not_there():
    scores = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan], [5.0, 8.0, np.nan]])
    found = interval(scores, present=np.isfinite(scores))
    assert found.value == np.nanmean(scores) and found.low < found.value < found.high
    alone = np.array([[2.0, np.nan]])
    assert interval(alone, present=np.isfinite(alone)) == Estimate(2.0, 2.0, 2.0)
    whole = np.random.default_rng(6).normal(size=(8, 3))
    padded = np.pad(whole, [(0, 2), (0, 1)], constant_values=np.nan)
    np.testing.assert_allclose(interval(padded, present=np.isfinite(padded)), interval(whole))


def test_a_suite_of_environments_is_fixed_and_its_rules_are_not():
    """Environments differ without widening the interval; rules differ in all of them alike."""
    level, rule = np.array([0.0, 50.0, 90.0])[:, None, None], np.array([-1.0, 0.0, 1.0])
    suite = np.broadcast_to(level + rule, (3, 8, 3))
    margin = scipy_stats.t.ppf(0.975, 2) / np.sqrt(3)
    expected = (140 / 3, 140 / 3 - margin, 140 / 3 + margin)
    np.testing.assert_allclose(suite_interval(suite, num_shared=1), expected)
    constant = suite_interval(np.broadcast_to(level, (3, 8, 3)), num_shared=1)
    np.testing.assert_allclose(constant, [140 / 3] * 3)


def test_a_suite_of_one_rule_is_the_stratified_t_interval():
    rng = np.random.default_rng(7)
    suite = [rng.normal(size=size) for size in (4, 9)]
    parts = np.array([x.var(ddof=1) / x.size / 4 for x in suite])
    degrees = parts.sum() ** 2 / (parts**2 / [3, 8]).sum()  # Welch & Satterthwaite
    margin = scipy_stats.t.ppf(0.975, degrees) * np.sqrt(parts.sum())
    value = np.mean([x.mean() for x in suite])
    np.testing.assert_allclose(suite_interval(suite), (value, value - margin, value + margin))


def test_the_interval_of_an_iqm_covers_it_over_new_rules_and_new_agents():
    rng, level = np.random.default_rng(8), np.linspace(-1, 1, 4)[:, None, None]

    def draw(agents, rules):
        return level + 0.5 * rng.normal(size=rules) + rng.normal(size=(4, agents, rules))

    found = [iqm_interval(draw(8, 4)) for _ in range(300)]
    assert coverage(found, truth=0.0) >= 0.9  # by symmetry
    many = np.concatenate([draw(50, 1) for _ in range(4)], axis=1)
    index = rng.integers(many.shape[1], size=(1000, 4, many.shape[1], 1))
    resampled = iqm(np.take_along_axis(many[None], index, axis=2).reshape(1000, -1), axis=-1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    np.testing.assert_allclose(iqm_interval(many)[1:], [low, high], atol=0.1 * (high - low))


@pytest.mark.parametrize(("envs", "agents"), [(1, 4), (1, 8), (2, 8)])
def test_the_interval_of_an_iqm_of_few_scores_covers_it(envs, agents):
    rng = np.random.default_rng(11)
    found = [iqm_interval(rng.normal(size=(envs, agents, 1))) for _ in range(3000)]
    assert 0.92 <= coverage(found, truth=0.0) <= 0.98


def test_the_difference_of_iqms_is_paired_by_environment_and_agent():
    rng = np.random.default_rng(9)
    y = rng.normal(size=(5, 16, 1)) + 5 * rng.normal(size=(5, 1, 1))
    found = iqm_difference(y + 1, y)
    assert found == pytest.approx((1.0, 1.0, 1.0))
    alone = iqm_difference(y + 1, rng.permuted(y, axis=1))
    assert alone.value == pytest.approx(1.0) and alone.low < 1 < alone.high
    with pytest.raises(ValueError, match=r"same environments and agents: \(5, 16\) and \(4, 16\)"):
        iqm_difference(y, y[1:])


def test_the_interval_of_a_difference_covers_it():
    rng = np.random.default_rng(10)

    def draw(rules):
        return rng.normal(size=rules) + rng.normal(size=(3, 6, rules))

    assert coverage(iqm_difference(draw(4), draw(3)) for _ in range(300)) >= 0.9


def test_a_bootstrap_interval_is_near_the_normal_one_and_repeatable():
    scores = np.random.default_rng(1).normal(size=400)
    estimate = bootstrap_interval(scores, np.mean, confidence=0.9)
    half = 1.645 * scores.std(ddof=1) / 20
    expected = [scores.mean() - half, scores.mean() + half]
    np.testing.assert_allclose(estimate[1:], expected, atol=0.15 * half)
    assert estimate == bootstrap_interval(scores, np.mean, confidence=0.9)


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
