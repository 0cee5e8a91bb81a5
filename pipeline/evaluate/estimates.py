"""Estimate metrics over held-out documents and items, each with its standard error.

Every metric is a ratio of sums, Σ score / Σ size, with its linearized error over groups of items (Cochran 1977, section 6.3):
bits per byte compare models of any vocabulary, Σ bits / Σ bytes over documents; fractions have a size of 1 per item. Fractions
of right replies have a binomial error that is not 0 when all or none are right: it is taken at (k + 1) / (n + 2), Laplace's
estimate. Time: O(items).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value, its standard error, and the number of documents or items."""

    value: float
    se: float
    n: int


def estimate_fraction(is_right: Sequence[bool]) -> Estimate:
    """Return the fraction of true values among at least one."""
    n, k = len(is_right), sum(is_right)
    p = (k + 1) / (n + 2)
    return Estimate(k / n, math.sqrt(p * (1 - p) / n), n)


def estimate_ratio(scores: Sequence[float], sizes: Sequence[float], groups: Sequence[str]) -> Estimate:
    """Return Σ score / Σ size of items that depend on each other within a group, such as turns of a conversation or pairs of
    a paradigm. The error is the linearized one over groups.

    Where every item is right or wrong (score 0 or 1, size 1), it is not 0 when all are alike: items that are groups of their own
    have the binomial error of `estimate_fraction`, other groups at least that of as many items as there are groups.
    """
    is_binary = all(size == 1 for size in sizes) and all(score in (0, 1) for score in scores)
    names, index = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if is_binary and len(names) == len(scores):
        return estimate_fraction([bool(score) for score in scores])
    sums = np.bincount(index, weights=np.asarray(scores, dtype=np.float64))
    totals = np.bincount(index, weights=np.asarray(sizes, dtype=np.float64))
    value, n = float(sums.sum() / totals.sum()), len(names)
    squares = float(((sums - value * totals) ** 2).sum())
    se = math.sqrt(squares * n / (n - 1)) / float(totals.sum()) if n > 1 else 0.0
    if is_binary and (n == 1 or squares == 0):
        p = (value * n + 1) / (n + 2)
        se = max(se, math.sqrt(p * (1 - p) / n))
    return Estimate(value, se, len(scores))
