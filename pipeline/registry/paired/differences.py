"""Compare two models on the same items: a paired difference with its standard error, its interval and two p-values. Pure.

In: the scores of two models by item (items.parquet of `evaluate`), where a metric is Σ score / Σ size over its items; or, where
there are no common items, two values with their standard errors. Out: `Difference`, in the direction in which more is better.

The difference of two ratios over the same items is a ratio of sums itself, with its linearized error over groups of items that
depend on each other (Cochran 1977, Sampling Techniques, 6.13 and 9A.1). For right and wrong, each cell of the table of discordant
pairs gets half a count (Agresti and Min 2005, Statistics in Medicine 24), without which no discordant pair would mean no error;
the p-values then agree with McNemar's exact test within a factor of two (a test compares them).

Two runs that differ in their seed only differ by more than chance among the items: `noise` is the standard deviation of the metric
between seeds, measured on n_seeds runs, and 2 noise² the variance of a difference of two of them. That includes their chance among
the items, so the error over items is subtracted from it; but at most a quarter of it, because five runs tell little about their own
spread: subtracting all made five times as many errors as it should at small p-values, and nothing a sixth (`UNEXPLAINED`). The
degrees of freedom are Satterthwaite's (1946) for the sum. Time: O(items log items).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

MIN_GROUPS = 10  # of common items: with fewer, an error estimated from them means little
CONFIDENCE = 0.95
UNEXPLAINED = 0.75  # of the variance between seeds: at least so much is not chance among the items


@dataclass(frozen=True)
class ItemScores:
    """The items of one metric as columns. `groups`: items with the same group depend on each other."""

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    scores: NDArray[np.float64]
    sizes: NDArray[np.float64]
    is_lower_better: bool = False

    @property
    def value(self) -> float:
        """The metric."""
        total = float(self.sizes.sum())
        return float(self.scores.sum()) / total if total else math.nan


@dataclass(frozen=True)
class Noise:
    """The standard deviation of a metric between `n_seeds` runs that differ in their seed only."""

    sd: float
    n_seeds: int


@dataclass(frozen=True)
class Difference:
    """A candidate's gain over the champion: above 0 is better, whatever the metric's direction.

    `p_better`: how likely a gain of this size or more is if the two are equal; `p_worse` the same for a loss.
    """

    gain: float
    se: float
    df: float
    n_items: int  # common to both; 0: compared by the two values alone

    @property
    def p_better(self) -> float:
        """The one-sided p-value of a gain."""
        return _compute_tail(-self.gain, self.se, self.df)

    @property
    def p_worse(self) -> float:
        """The one-sided p-value of a loss."""
        return _compute_tail(self.gain, self.se, self.df)

    @property
    def interval(self) -> tuple[float, float]:
        """The two-sided interval of the gain at `CONFIDENCE`."""
        half = float(stdtrit(self.df, (1 + CONFIDENCE) / 2)) * self.se
        return self.gain - half, self.gain + half


def compare_items(candidate: ItemScores, champion: ItemScores, noise: Noise | None) -> Difference | None:
    """Return the paired difference over the items that both have, of the same size; None with too few or not finite ones."""
    left, right = _join_ids(candidate.ids, champion.ids)
    same = candidate.sizes[left] == champion.sizes[right]
    left, right = left[same], right[same]
    sizes = candidate.sizes[left]
    differences = candidate.scores[left] - champion.scores[right]
    if not np.isfinite(differences).all() or sizes.sum() <= 0:
        return None
    value, variance, n_groups = estimate_ratio_difference(differences, sizes, candidate.groups[left])
    if n_groups < min(MIN_GROUPS, len(np.unique(candidate.groups)), len(np.unique(champion.groups))) or n_groups < 2:
        return None
    sign = -1.0 if candidate.is_lower_better else 1.0
    se, df = add_noise(variance, n_groups - 1, noise)
    return Difference(sign * value, se, df, len(left))


def _join_ids(left: NDArray[np.str_], right: NDArray[np.str_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the common ids in both."""
    if np.array_equal(left, right):
        return np.arange(len(left)), np.arange(len(right))
    _, ours, theirs = np.intersect1d(left, right, return_indices=True)
    return ours, theirs


def compare_values(
    candidate: tuple[float, float], champion: tuple[float, float], noise: Noise | None, *, is_lower_better: bool
) -> Difference | None:
    """Return the difference of two (value, standard error) that were measured on different items; None if one is not finite."""
    numbers = (*candidate, *champion)
    if not all(map(math.isfinite, numbers)):
        return None
    gain = (candidate[0] - champion[0]) * (-1.0 if is_lower_better else 1.0)
    se, df = add_noise(candidate[1] ** 2 + champion[1] ** 2, math.inf, noise)
    return Difference(gain, se, df, 0)


def estimate_ratio_difference(
    differences: NDArray[np.float64], sizes: NDArray[np.float64], groups: NDArray[np.str_]
) -> tuple[float, float, int]:
    """Return (Σ differences / Σ sizes, its variance over groups, number of groups)."""
    _, codes = np.unique(groups, return_inverse=True)
    n = int(codes.max()) + 1 if len(codes) else 0
    total = float(sizes.sum())
    value = float(differences.sum()) / total
    residuals = np.bincount(codes, weights=differences - value * sizes, minlength=n)
    squares = float(residuals @ residuals) * (n / (n - 1) if n > 1 else 1.0)
    if bool(np.all(np.isin(differences, (-1.0, 0.0, 1.0)))) and bool(np.all(sizes == 1.0)):
        return value, (squares + 1.0) / (total + 2.0) ** 2, n
    return value, squares / total**2, n


def add_noise(variance: float, df: float, noise: Noise | None) -> tuple[float, float]:
    """Return (standard error, degrees of freedom) of a difference with the spread of two seeds added to its variance."""
    if noise is None or noise.sd == 0:
        return math.sqrt(variance), df
    both = 2 * noise.sd**2
    between = max(both - variance, UNEXPLAINED * both)
    satterthwaite = (variance + between) ** 2 / (variance**2 / df + between**2 / (noise.n_seeds - 1))
    return math.sqrt(variance + between), satterthwaite


def adjust_p_values(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted for the number of tests by Holm's method (1979): the family-wise error is their level."""
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _compute_tail(gain: float, se: float, df: float) -> float:
    """Return the probability of a value below `gain` under equality; with no error at all, 0 or 1, and a half at 0."""
    if se == 0:
        return 0.5 if gain == 0 else float(gain > 0)
    return float(stdtr(df, gain / se))
