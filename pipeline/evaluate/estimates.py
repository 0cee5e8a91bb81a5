"""Estimate metrics over held-out documents and items, each with its standard error.

Bits per byte compare models of any vocabulary: Σ nats / (ln 2 · Σ bytes), with the linearized error of a ratio of sums
over documents (Cochran 1977, section 6.3). Fractions of right replies have a binomial error that is not 0 when all or
none are right: it is taken at (k + 1) / (n + 2), Laplace's estimate. Time: O(documents), O(items).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value, its standard error, and the number of documents or items."""

    value: float
    se: float
    n: int


def estimate_bits_per_byte(nats: Sequence[float], n_bytes: Sequence[int]) -> Estimate:
    """Return bits per byte of at least one document with at least one byte.

    The standard error of a single document is unknown and returned as 0.
    """
    bits, sizes = np.asarray(nats) / math.log(2), np.asarray(n_bytes, dtype=np.float64)
    value = float(bits.sum() / sizes.sum())
    n = len(bits)
    squares = float(((bits - value * sizes) ** 2).sum())
    return Estimate(value, math.sqrt(squares * n / (n - 1)) / float(sizes.sum()) if n > 1 else 0.0, n)


def estimate_by_source(sources: Sequence[str], nats: Sequence[float], n_bytes: Sequence[int]) -> Mapping[str, Estimate]:
    """Return bits per byte by source, sorted by name."""
    groups: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(source, []).append(index)
    return {
        source: estimate_bits_per_byte([nats[index] for index in group], [n_bytes[index] for index in group])
        for source, group in sorted(groups.items())
    }


def estimate_fraction(is_right: Sequence[bool]) -> Estimate:
    """Return the fraction of true values among at least one."""
    n, k = len(is_right), sum(is_right)
    p = (k + 1) / (n + 2)
    return Estimate(k / n, math.sqrt(p * (1 - p) / n), n)


def estimate_clustered(is_right: Sequence[Sequence[bool]]) -> Estimate:
    """Return the fraction of true values in clusters that depend within, such as the turns of conversations.

    The error is the linearized one of a ratio of sums over clusters, or where all are alike, the binomial one of as many items as
    there are clusters (Laplace's estimate, as in `estimate_fraction`).
    """
    sums, sizes = np.asarray([sum(each) for each in is_right]), np.asarray([len(each) for each in is_right])
    n = len(sizes)
    value = float(sums.sum() / sizes.sum())
    squares = float(((sums - value * sizes) ** 2).sum())
    p = (value * n + 1) / (n + 2)
    linearized = math.sqrt(squares * n / (n - 1)) / float(sizes.sum()) if n > 1 else 0.0
    floor = math.sqrt(p * (1 - p) / n) if n == 1 or squares == 0 else 0.0
    return Estimate(value, max(linearized, floor), int(sizes.sum()))
