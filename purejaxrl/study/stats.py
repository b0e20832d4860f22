"""Statistics over seeds and tasks: point estimates with bootstrap intervals.

The estimators are those of Agarwal et al. 2021 ("Deep RL at the edge of the statistical
precipice", arXiv 2108.13264). Intervals are percentile bootstraps; where there are several tasks,
runs are resampled within each task (stratified).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats


class Estimate(NamedTuple):
    """A point estimate and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def iqm(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the interquartile mean: the mean of the middle half of all scores."""
    if axis is None:
        scores, axis = np.ravel(scores), 0
    return stats.trim_mean(scores, 0.25, axis=axis)


def interval(
    *samples: np.ndarray,
    statistic: Callable = np.mean,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    rng_seed: int = 0,
) -> Estimate:
    """Estimate a statistic of all scores together, with a stratified-bootstrap interval.

    Args:
        samples: one array of scores `[num_runs]` for each task (stratum).
        statistic: of an array of scores, called with `axis=-1`: `np.mean`, `iqm`, `np.median`.
        confidence: coverage of the interval.
        num_resamples: bootstrap samples.
        rng_seed: makes the interval repeatable.

    Raises:
        ValueError: if a sample is empty or holds a NaN.
    """
    samples = tuple(np.asarray(x, dtype=np.float64).ravel() for x in samples)
    for i, x in enumerate(samples):
        _check_scores(f"sample {i}", x)

    rng = np.random.default_rng(rng_seed)
    resampled = [x[rng.integers(x.size, size=(num_resamples, x.size))] for x in samples]
    draws = statistic(np.concatenate(resampled, axis=-1), axis=-1)
    value = float(statistic(np.concatenate(samples), axis=-1))
    return Estimate(value, *_percentiles(draws, confidence))


def crossed_interval(
    scores: np.ndarray,
    *,
    present: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    rng_seed: int = 0,
) -> Estimate:
    """Estimate the mean of a crossed design, with an interval for new entries of every axis.

    Where every rule meets every level, scores are not independent: a good rule is good on many
    levels at once. So whole rules and whole levels are resampled ("The pigeonhole bootstrap", Owen
    2007, Annals of Applied Statistics 1:386). An axis with few entries, as three rules, hardly says
    how others would differ: its part of the variance is too small by (n - 1)/n.

    Args:
        scores: `[num_levels, num_rules, ...]`, an axis for everything that could have been drawn
            otherwise; one entry on an axis counts as given.
        present: bool, shaped like `scores`: which of them there are; all by default.
        confidence, num_resamples, rng_seed: as in `interval`.

    Raises:
        ValueError: if there are no scores or one that is present is NaN.
    """
    scores = np.asarray(scores, dtype=np.float64)
    present = np.ones(scores.shape, bool) if present is None else present
    _check_scores("scores", scores[present])
    total = np.where(present, scores, 0.0)
    rng = np.random.default_rng(rng_seed)

    def resampled() -> float:
        index = np.ix_(*(rng.integers(size, size=size) for size in scores.shape))
        count = present[index].sum()
        return total[index].sum() / count if count else np.nan

    draws = np.array([resampled() for _ in range(num_resamples)])
    return Estimate(float(scores[present].mean()), *_percentiles(draws, confidence))


def probability_of_improvement(
    x: np.ndarray,
    y: np.ndarray,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    rng_seed: int = 0,
) -> Estimate:
    """Estimate P(X > Y) + P(X = Y)/2 for runs drawn at random, averaged over tasks.

    Args:
        x, y: scores `[num_tasks, num_runs]` or `[num_runs]`; the numbers of runs may differ.
        confidence, num_resamples, rng_seed: of the interval, which resamples runs within tasks.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    _check_scores("x", x)
    _check_scores("y", y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"x and y must have as many tasks: {x.shape[0]} and {y.shape[0]}")
    rng = np.random.default_rng(rng_seed)

    def mean_probability(x: np.ndarray, y: np.ndarray) -> float:
        difference = x[:, :, None] - y[:, None, :]
        return float(((difference > 0) + 0.5 * (difference == 0)).mean())

    def resampled(scores: np.ndarray) -> np.ndarray:
        index = rng.integers(scores.shape[1], size=scores.shape)
        return np.take_along_axis(scores, index, axis=1)

    draws = [mean_probability(resampled(x), resampled(y)) for _ in range(num_resamples)]
    return Estimate(mean_probability(x, y), *_percentiles(draws, confidence))


def final_scores(frame: pd.DataFrame, name: str = "return", fraction: float = 0.1) -> np.ndarray:
    """Score every member by the last part of its training.

    Args:
        frame: a run's metrics, as `read_metrics` gives them.
        name: metric, a mean over finished episodes; weighted by their number.
        fraction: of the updates, at the end.

    Returns:
        Scores `[num_members]`; NaN: no episode finished in that part, or the member diverged.
    """
    last = frame["update"].max()
    tail = frame[frame["update"] > last * (1 - fraction)]
    counts = tail["episodes"].where(tail[name].notna(), 0)
    tail = tail.assign(total=tail[name].fillna(0) * counts, episodes=counts)
    by_member = tail.groupby("member")
    sums = by_member[["total", "episodes"]].sum()
    scores = sums["total"] / sums["episodes"].where(sums["episodes"] > 0)
    if "alive" in frame:
        scores = scores.where(by_member["alive"].last())
    return scores.to_numpy()


def _check_scores(name: str, scores: np.ndarray) -> None:
    if scores.size == 0 or np.isnan(scores).any():
        raise ValueError(f"{name}: {scores!r} is not valid; it must be scores without NaN")


def _percentiles(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])  # NaN: a resample without scores
    return float(low), float(high)
