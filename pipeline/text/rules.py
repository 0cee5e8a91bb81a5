"""Scores and thresholds to decisions: the first rule that a document breaks is the reason it goes.

In: a table of scores, one row a document. Out: the place of the broken rule (-1: none) for each. Nothing here reads a text, so
another threshold can be tried on stored scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.text.columns import Rows

PASSES = -1


class Rule(NamedTuple):
    """Documents stay whose `score` is at least (`min`) or at most (`max`) the threshold."""

    reason: str
    score: str
    side: str
    threshold: float


def rule(name: str, threshold: float) -> Rule:
    """`min_words` → the rule on the score `words`, named as it is."""
    side, _, score = name.partition("_")
    assert side in ("min", "max"), f"{name}: a threshold says which side stays"
    return Rule(name, score, side, float(threshold))


def first_broken(scores: pa.Table, rules: Sequence[Rule]) -> Rows:
    """For each document the place in `rules` of the first one that it breaks, or `PASSES`."""
    broken = np.full(scores.num_rows, PASSES, np.int64)
    for place, (_, score, side, threshold) in reversed(list(enumerate(rules))):
        values = scores.column(score).to_numpy()
        broken[values < threshold if side == "min" else values > threshold] = place
    return broken
