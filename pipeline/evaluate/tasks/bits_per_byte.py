"""Bits per byte of held-out documents, overall and by source: the one figure that compares models of any vocabulary.

In: nats and UTF-8 bytes of each document. Out: Σ nats / (ln 2 · Σ bytes) with its standard error over documents (the
linearised error of a ratio of sums; Cochran 1977, section 6.3). Time: O(documents).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    value: float
    se: float
    n: int


def bits_per_byte(nats: Sequence[float], n_bytes: Sequence[int]) -> Ratio:
    """At least one document with at least one byte; the error of a single one is 0, which says nothing."""
    bits, sizes = np.asarray(nats) / math.log(2), np.asarray(n_bytes, dtype=np.float64)
    value = float(bits.sum() / sizes.sum())
    n = len(bits)
    spread = float(((bits - value * sizes) ** 2).sum())
    return Ratio(value, math.sqrt(spread * n / (n - 1)) / float(sizes.sum()) if n > 1 else 0.0, n)


def by_source(sources: Sequence[str], nats: Sequence[float], n_bytes: Sequence[int]) -> Mapping[str, Ratio]:
    """Sources in the order of their names."""
    groups: dict[str, list[int]] = {}
    for place, source in enumerate(sources):
        groups.setdefault(source, []).append(place)
    return {
        source: bits_per_byte([nats[p] for p in places], [n_bytes[p] for p in places])
        for source, places in sorted(groups.items())
    }
