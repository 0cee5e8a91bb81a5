"""Measure rankings: how often an answer is among the first k, and the mean reciprocal rank, with standard errors.

In: for each query the rank of its first answer, counted from 0, or None. Out: R@1, R@3 and R@10 in percent and MRR@10. Units with
the same text under several names count as one, so that an alias is neither a mistake nor a second chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.frame.metrics import Metrics

DEPTH = 10


class Scores(NamedTuple):
    """Metrics of one ranking over some queries; `_se`: their standard errors."""

    r1_pct: float
    r3_pct: float
    r10_pct: float
    mrr10: float
    r1_pct_se: float
    r3_pct_se: float
    r10_pct_se: float
    mrr10_se: float


def find_rank(rows: NDArray[np.int64], answers: Iterable[int], groups: NDArray[np.int64]) -> int | None:
    """Return the place of the first answer among the distinct texts of a ranking."""
    wanted = {int(groups[row]) for row in answers}
    for place, group in enumerate(dict.fromkeys(groups[rows].tolist())):
        if group in wanted:
            return place
    return None


def score_ranks(ranks: Sequence[int | None]) -> Scores:
    """Return the metrics of some queries; zeros for none."""
    places = np.array([DEPTH if rank is None else rank for rank in ranks] or [DEPTH])
    columns = [100.0 * (places < k) for k in (1, 3, DEPTH)] + [np.where(places < DEPTH, 1 / (places + 1), 0.0)]
    errors = [float(column.std() / np.sqrt(len(places))) for column in columns]
    return Scores(*(float(column.mean()) for column in columns), *errors)


def name_metrics(name: str, scores: Scores) -> Metrics:
    """Return the metrics under names that start with `name`."""
    return {f"{name}_{key}": round(value, 4) for key, value in scores._asdict().items()}
