"""How much a text is like those that somebody called good: the pure half of the quality classifier.

In: a column of texts, scores, labels. Out: the words that fastText learns from and judges (as `normalize` makes them: lower case,
no punctuation), training lines, a threshold, a calibration. The recipe is DCLM's (Li et al. 2024): fastText on words and word
bigrams, learning rate 0.1, 5 epochs, 100 dimensions, as many positives as negatives, the best tenth stays. Ours differs in its
words (theirs keep case and punctuation) and repeats the smaller side instead of cutting the larger one.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.columns import Fractions, Rows
from pipeline.text.normalize import fold, split_words

LABEL = "#"  # no word begins with it, so no text can claim a label
POSITIVE, NEGATIVE = f"{LABEL}positive", f"{LABEL}negative"
SCORE = "quality_score"
HELDOUT_FRAC = 0.1
N_BINS = 10


class QualityModel(Protocol):
    """What we need of a model: the probability of the wanted labels together."""

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]: ...


class Calibration(NamedTuple):
    """Held-out texts by score in `N_BINS` equal bins, the lowest first; `auc`: a positive scores above a negative."""

    n_docs: Rows
    n_positive: Rows
    auc: float


def extract_quality_words(texts: pa.StringArray, max_chars: int) -> pa.StringArray:
    """The words of the first `max_chars` characters of each text, one line each."""
    return split_words(fold(pc.utf8_slice_codeunits(texts, 0, max_chars)))


def score_quality(model: QualityModel, texts: pa.StringArray, max_chars: int) -> Fractions:
    """The probability that each text is a positive; 0 for one without words."""
    return model.judge(extract_quality_words(texts, max_chars), [POSITIVE])[1]


def make_training_lines(positives: Sequence[str], negatives: Sequence[str], seed: int) -> Iterator[str]:
    """fastText's input in random order. The smaller side is repeated until it is as large as the other."""
    n = max(len(positives), len(negatives))
    order = list(range(2 * n))
    random.Random(seed).shuffle(order)
    for index in order:
        label, lines = (POSITIVE, positives) if index < n else (NEGATIVE, negatives)
        yield f"{label} {lines[index % n % len(lines)]}"


def find_top_frac_threshold(scores: Fractions, keep_frac: float) -> float:
    """The score at or above which `keep_frac` of the documents lie; more where several have this very score."""
    if not len(scores):
        return 0.0
    index = len(scores) - math.ceil(keep_frac * len(scores))
    return float(np.partition(scores, index)[index])


def calibrate(scores: Fractions, is_positive: npt.NDArray[np.bool_]) -> Calibration:
    """How often a score is right, of texts that the model did not see."""
    bins = np.minimum((scores * N_BINS).astype(np.int64), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS), np.bincount(bins[is_positive], minlength=N_BINS)
    return Calibration(*counts, compute_auc(scores, is_positive))


def compute_auc(scores: Fractions, is_positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties half (Mann-Whitney); 0.5 where one side is empty."""
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_negative:
        return 0.5
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]  # the mean rank of equal scores, from 1
    return float((ranks[is_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def flatten_calibration(found: Calibration) -> dict[str, float | int]:
    """As flat figures: `quality_auc_frac`, and of each bin its texts and the positives among them."""
    metrics: dict[str, float | int] = {"quality_auc_frac": found.auc}
    for index in range(N_BINS):
        name = f"quality_bin_{100 * index // N_BINS:02d}"
        metrics |= {f"{name}_docs": int(found.n_docs[index]), f"{name}_positives": int(found.n_positive[index])}
    return metrics
