"""The quality classifier's pure functions: how similar is a text to the positive examples?

In: a column of texts, scores, labels. Out: the words that fastText trains on and judges (normalized: lower case, no punctuation),
training lines, a threshold, a calibration. The recipe is DCLM's (Li et al. 2024): fastText on words and word bigrams, learning rate
0.1, 5 epochs, 100 dimensions, equal numbers of positives and negatives, the best tenth is kept. Ours differs in its words (theirs
keep case and punctuation) and repeats the smaller class instead of sampling the larger one.
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

LABEL = "#"  # no word begins with it, so no text can forge a label
POSITIVE, NEGATIVE = f"{LABEL}positive", f"{LABEL}negative"
SCORE = "quality_score"
HELDOUT_FRAC = 0.1
N_BINS = 10


class QualityModel(Protocol):
    """A model that returns the total probability of the wanted labels."""

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]: ...


class Calibration(NamedTuple):
    """Held-out texts by score in `N_BINS` equal bins, lowest first; `auc` is the area under the ROC curve."""

    n_docs: Rows
    n_positive: Rows
    auc: float


def extract_quality_words(texts: pa.StringArray, max_chars: int) -> pa.StringArray:
    """Return the words of the first `max_chars` characters of each text, one line per text."""
    return split_words(fold(pc.utf8_slice_codeunits(texts, 0, max_chars)))


def score_quality(model: QualityModel, texts: pa.StringArray, max_chars: int) -> Fractions:
    """Return the probability that each text is a positive; 0 for a text without words."""
    return model.judge(extract_quality_words(texts, max_chars), [POSITIVE])[1]


def make_training_lines(positives: Sequence[str], negatives: Sequence[str], seed: int) -> Iterator[str]:
    """Yield fastText's input in random order. The smaller class is repeated until it is as large as the other."""
    n = max(len(positives), len(negatives))
    order = list(range(2 * n))
    random.Random(seed).shuffle(order)
    for index in order:
        label, lines = (POSITIVE, positives) if index < n else (NEGATIVE, negatives)
        yield f"{label} {lines[index % n % len(lines)]}"


def find_top_frac_threshold(scores: Fractions, keep_frac: float) -> float:
    """Return the threshold that keeps `keep_frac` of the documents, or more if several have this very score."""
    if not len(scores):
        return 0.0
    index = len(scores) - math.ceil(keep_frac * len(scores))
    return float(np.partition(scores, index)[index])


def calibrate(scores: Fractions, is_positive: npt.NDArray[np.bool_]) -> Calibration:
    """Return the calibration of scores of held-out texts."""
    bins = np.minimum((scores * N_BINS).astype(np.int64), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS), np.bincount(bins[is_positive], minlength=N_BINS)
    return Calibration(*counts, compute_auc(scores, is_positive))


def compute_auc(scores: Fractions, is_positive: npt.NDArray[np.bool_]) -> float:
    """Return the probability that a positive scores above a negative, ties half (Mann-Whitney); 0.5 if a class is empty."""
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_negative:
        return 0.5
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]  # the mean rank of equal scores, counted from 1
    return float((ranks[is_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def flatten_calibration(calibration: Calibration) -> dict[str, float | int]:
    """Return flat metrics: `quality_auc_frac`, and for each bin its texts and the positives among them."""
    metrics: dict[str, float | int] = {"quality_auc_frac": calibration.auc}
    for index in range(N_BINS):
        name = f"quality_bin_{100 * index // N_BINS:02d}"
        metrics |= {
            f"{name}_docs": int(calibration.n_docs[index]),
            f"{name}_positives": int(calibration.n_positive[index]),
        }
    return metrics
