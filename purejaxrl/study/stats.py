"""Statistics over seeds, rules and environments: point estimates with intervals.

All intervals of means are t-intervals. Where scores are crossed, such as where every rule meets
every level, each axis adds its own part of the variance, so that an interval holds for a new sample
of rules and levels. Percentile bootstraps of few scores are too narrow: with four they cover 0.80,
not 0.95 (docs/comparisons.md). The interquartile mean and P(X > Y) are those of Agarwal et al. 2021
("Deep RL at the edge of the statistical precipice", arXiv 2108.13264).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

Bounds = tuple[float, float]
"""The lowest and the highest value that a statistic can have."""
UNBOUNDED: Bounds = (-np.inf, np.inf)
PROBABILITY: Bounds = (0.0, 1.0)
TRIMMED = 0.25
"""The fraction of all scores that an interquartile mean leaves out at either end."""


class Estimate(NamedTuple):
    """A point estimate and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


class Part(NamedTuple):
    """What some axes of a crossed design add to the variance of a mean."""

    variance: float
    num_axes: int
    degrees: float  # of freedom


def interval(
    scores: np.ndarray,
    *,
    present: np.ndarray | None = None,
    bounds: Bounds = UNBOUNDED,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate a mean, with an interval for new entries of every axis.

    Where every rule meets every level, scores are not independent: a good rule is good on many
    levels at once. So rules and levels each add to the variance (`variance_parts`).

    Args:
        scores: `[num_runs]`, or `[num_levels, num_rules, ...]`, an axis for everything that was
            sampled. An axis with one entry counts as fixed.
        present: bool, shaped like `scores`: which scores exist; all by default.
        bounds: bounds of the mean, at which the interval is cut.
        confidence: coverage of the interval.

    Raises:
        ValueError: if there are no scores, or one that is present is NaN.
    """
    scores = np.asarray(scores, np.float64)
    present = np.ones(scores.shape, bool) if present is None else present
    _check_scores("scores", scores[present])
    return suite_interval([np.where(present, scores, np.nan)], bounds=bounds, confidence=confidence)


def suite_interval(
    suite: Sequence[np.ndarray],
    num_shared: int = 0,
    *,
    bounds: Bounds = UNBOUNDED,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate the mean over a fixed suite of environments, all of the same weight.

    The interval treats agents and rules as random samples, and environments as fixed.

    Args:
        suite: the scores in each environment, `[num_agents, ..., *shared]`; NaN: there is none.
        num_shared: number of last axes whose entries all environments share, such as rules.
        bounds, confidence: see `interval`.
    """
    value = float(np.mean([np.nanmean(scores) for scores in suite]))
    return _estimate(value, suite, num_shared, bounds, confidence)


def iqm(scores: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the interquartile mean: the mean of the middle half of all scores."""
    if axis is None:
        scores, axis = np.ravel(scores), 0
    return stats.trim_mean(scores, TRIMMED, axis=axis)


def iqm_interval(scores: np.ndarray, reference: np.ndarray | None = None) -> Estimate:
    """Estimate the interquartile mean over a fixed suite of environments.

    Args:
        scores: `[num_envs, num_agents, num_rules]`, normalised by environment; the same rules in
            all environments.
        reference: `[num_envs, num_agents]`, the normalised scores, minus 1, of the contender whose
            mean is 1. Its mean is an estimate, and so widens the interval. None: it is known.

    Raises:
        ValueError: if there are no scores, or one is NaN.
    """
    influence, trimmed = iqm_influence(scores, reference), _kept(scores.size)
    return _estimate(float(iqm(scores)), influence, 1, kept=trimmed)


def iqm_difference(x: np.ndarray, y: np.ndarray, reference: np.ndarray | None = None) -> Estimate:
    """Estimate the difference of two interquartile means over the same environments.

    Args:
        x, y: see `iqm_interval`, in the same environments. Agents of one index have the same
            seed (and level), so they are paired. The numbers of rules may differ.
        reference: see `iqm_interval`.

    Raises:
        ValueError: if there are no scores, one is NaN, or environments or agents differ.
    """
    if x.shape[:2] != y.shape[:2]:
        raise ValueError(
            f"x and y must have the same environments and agents: {x.shape[:2]} and {y.shape[:2]}"
        )
    of_x, of_y = iqm_influence(x, reference), iqm_influence(y, reference)
    difference, trimmed = of_x[..., :, None] - of_y[..., None, :], _kept(min(x.size, y.size))
    return _estimate(float(iqm(x) - iqm(y)), difference, 2, kept=trimmed)


def iqm_influence(scores: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Compute how much each score moves the interquartile mean; their mean is 0.

    The interquartile mean varies as the mean of these numbers does. To make them, the outer
    quarters of the scores are pulled to the quartiles, and the mean is subtracted. A scale then
    puts h (h - 1) in the place of n (n - 1) in the variance of the mean, where h of n scores are
    left in (Tukey & McLaughlin 1963, Sankhya A 25:331).

    Args:
        scores, reference: see `iqm_interval`. If all scores of an environment are divided by a
            mean that is a little too large, the scores that are left in shrink.
    """
    _check_scores("scores", scores)
    size, ordered = scores.size, np.sort(scores, axis=None)
    cut = int(TRIMMED * size)
    left_in = size - 2 * cut
    pulled = np.clip(scores, ordered[cut], ordered[size - cut - 1])
    influence = (pulled - pulled.mean()) * np.sqrt(size / left_in / _kept(size))
    if reference is None:
        return influence
    rank = scores.argsort(axis=None).argsort().reshape(scores.shape)
    middle = np.where((rank >= cut) & (rank < size - cut), scores, 0.0)
    shrinkage = len(scores) * middle.sum(axis=(1, 2)) / left_in
    return influence - (shrinkage[:, None] * reference)[..., None]


def _kept(size: int) -> float:
    """Return the fraction of the degrees of freedom that an interquartile mean leaves."""
    left_in = size - 2 * int(TRIMMED * size)
    return max(left_in - 1, 1) / max(size - 1, 1)


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Estimate P(X > Y) + P(X = Y)/2 for runs drawn at random, averaged over tasks.

    The interval treats runs as random samples, and tasks as fixed.

    Args:
        x, y: scores `[num_tasks, num_runs]` or `[num_runs]`; the numbers of runs may differ.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    _check_scores("x", x)
    _check_scores("y", y)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"x and y must have as many tasks: {x.shape[0]} and {y.shape[0]}")
    wins = [0.5 * (1 + np.sign(np.subtract.outer(*task))) for task in zip(x, y, strict=True)]
    return suite_interval(wins, bounds=PROBABILITY)


def bootstrap_interval(
    scores: np.ndarray,
    statistic: Callable[..., np.ndarray],
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> Estimate:
    """Estimate any statistic of many scores, with a percentile-bootstrap interval.

    With fewer than about 30 scores, such an interval is too narrow. For means, use `interval`.

    Args:
        scores: `[num_runs]`.
        statistic: function of an array of scores, called with `axis=-1`, such as `np.median`.
        confidence: coverage of the interval.
        num_resamples: bootstrap samples, always the same ones.

    Raises:
        ValueError: if there are no scores, or one is NaN.
    """
    scores = np.ravel(np.asarray(scores, np.float64))
    _check_scores("scores", scores)
    index = np.random.default_rng(0).integers(scores.size, size=(num_resamples, scores.size))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(statistic(scores[index], axis=-1), [tail, 100 - tail])
    return Estimate(float(statistic(scores, axis=-1)), float(low), float(high))


def final_scores(frame: pd.DataFrame, name: str = "return", fraction: float = 0.1) -> np.ndarray:
    """Score every member by the last part of its training.

    Args:
        frame: a run's metrics, as `read_metrics` gives them.
        name: metric, a mean over finished episodes; weighted by their number.
        fraction: fraction of the updates, at the end of the run, that count.

    Returns:
        Scores `[num_members]`; NaN: no episode finished in that part, or the member diverged.
    """
    last = frame["update"].max()
    tail = frame[frame["update"] > last * (1 - fraction)]
    scores = mean_over_episodes(tail, ["member"], name).sort_index()
    if "alive" in frame:
        scores = scores.where(tail.groupby("member")["alive"].last())
    return scores.to_numpy()


def mean_over_episodes(
    frame: pd.DataFrame, by: Sequence[str], name: str = "return"
) -> "pd.Series[float]":
    """Average a metric over the finished episodes of every group of rows.

    Args:
        frame, name: see `final_scores`.
        by: columns that tell the groups apart.

    Returns:
        Means, indexed by `by`; NaN: no episode finished.
    """
    counts = frame["episodes"].where(frame[name].notna(), 0)
    found = frame.assign(total=frame[name].fillna(0) * counts, count=counts)
    sums = found.groupby(list(by), sort=False, dropna=False)[["total", "count"]].sum()
    return sums["total"] / sums["count"].where(sums["count"] > 0)


def variance_parts(
    suite: Sequence[np.ndarray], num_shared: int, kept: float = 1.0
) -> Iterator[Part]:
    r"""Split the variance of a mean into parts, one for every set of axes.

    Let $Q_T$ be the mean square of the interaction of the axes T, divided by their numbers of
    entries. In expectation it is the sum of the variances that T and all larger sets of axes add
    to the mean. So the variance of the mean is $\sum_T (-1)^{|T| + 1} Q_T$; for one axis, that is
    $s^2 / n$ (Cornfield & Tukey 1956, Annals of Mathematical Statistics 27:907).

    Args:
        suite, num_shared: see `suite_interval`. Agents of different environments have nothing in
            common; entries of shared axes are the same everywhere.
        kept: fraction of the degrees of freedom of axes that are not shared.
    """
    shared_total = 0.0
    for scores in suite:
        present = np.isfinite(scores)
        weight = 1 / (len(suite) * present.sum())
        share = np.where(present, scores - np.nanmean(scores), 0.0) * weight
        nested = scores.ndim - num_shared
        for axes in _subsets(range(scores.ndim)):
            if axes[0] < nested:
                for part in _part(share, present, axes):
                    yield part._replace(degrees=kept * part.degrees)
        shared_total = shared_total + share.sum(axis=tuple(range(nested)))
    for axes in _subsets(range(num_shared)):
        yield from _part(shared_total, np.ones(shared_total.shape, bool), axes)


def _part(share: np.ndarray, present: np.ndarray, axes: tuple[int, ...]) -> Iterator[Part]:
    """Compute $Q_T$ from what every score adds to the mean; nothing for one entry on an axis."""
    others = tuple(axis for axis in range(share.ndim) if axis not in axes)
    share, present = share.sum(others), present.any(others)
    variance, degrees = 1.0, 1
    for axis in range(share.ndim):
        count = present.any(tuple(i for i in range(share.ndim) if i != axis)).sum()
        if count < 2:
            return
        centre = share.sum(axis, keepdims=True) / np.maximum(present.sum(axis, keepdims=True), 1)
        share = np.where(present, share - centre, 0.0)
        variance, degrees = variance * count / (count - 1), degrees * (count - 1)
    yield Part(float(variance * (share**2).sum()), len(axes), int(degrees))


def _estimate(
    value: float,
    suite: Sequence[np.ndarray],
    num_shared: int,
    bounds: Bounds = UNBOUNDED,
    confidence: float = 0.95,
    kept: float = 1.0,
) -> Estimate:
    """Make a t-interval around a value that varies as the mean of `suite` does.

    `kept` is the fraction of the agents' degrees of freedom that count.

    The parts of the variance can sum up to less than one of them; then the largest is taken.
    Degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2:110).
    """
    parts = list(variance_parts(suite, num_shared, kept))
    variance = sum((-1) ** (part.num_axes + 1) * part.variance for part in parts)
    variance = max([variance, *(part.variance for part in parts)], default=0.0)
    spread = sum(part.variance**2 / part.degrees for part in parts)
    degrees = variance**2 / spread if spread > 0 else 1
    margin = stats.t.ppf(0.5 + confidence / 2, degrees) * np.sqrt(variance)
    low, high = np.clip([value - margin, value + margin], *bounds)
    return Estimate(value, float(low), float(high))


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Return all subsets of axes but the empty one, each in order."""
    return chain.from_iterable(combinations(axes, size + 1) for size in range(len(axes)))


def _check_scores(name: str, scores: np.ndarray) -> None:
    if np.size(scores) == 0 or np.isnan(scores).any():
        raise ValueError(f"{name}: {scores!r} is not valid; it must be scores without NaN")
