"""Calibrate the score of the kept languages by the length of the text, and judge as `unknown` what no known language fits.

In: a classifier, alphabets, and sentences that it was not trained on. Out: limits by length; a model whose score is as strict for
one word as for a page. fastText averages over words, so that one unusual word may be as certain proof as a page: of single foreign
words that it never saw, one in ten scored 0.65 as English. So the log-odds of the kept languages are shifted by a limit: a text of
n words scores `REFERENCE` (FineWeb's 0.65) at the log-odds that only `FALSE_PASSES` of the held-out foreign texts of n words reach,
where every language has the same weight. No limit is below that of longer texts, or `MIN_LIMIT`.

A language that the letters rule out (alphabets.py) has probability 0, and the others share what it had. If they had less than
`MIN_POSSIBLE`, no known language fits: the language is `UNKNOWN`. Time: as the classifier's, plus 2 ns per byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.filter.classifiers.alphabets import Alphabets, measure_fit
from pipeline.filter.classifiers.ngram_classifier import Classifier, predict
from pipeline.text.columns import Fractions, Rows

UNKNOWN = "unknown"
REFERENCE = 0.65
MIN_POSSIBLE = 0.02
# Of foreign texts of one, two, three, and more words. Other domains pass two to three times as often as held-out sentences.
FALSE_PASSES = (0.005, 0.002, 0.004, 0.006)
SPAN_SIZES = (1, 2, 3, 4, 6, 8, 12)  # words of a sentence that are judged on their own
MIN_LIMIT = -1.0  # log-odds: 0.27 is enough for a long text
_EPSILON = 1e-9

Limits = tuple[float, ...]  # the log-odds that score `REFERENCE`, by number of words; empty: the score remains as it is


class CalibratedModel(NamedTuple):
    """A classifier whose scores are calibrated for the languages that the params keep."""

    classifier: Classifier
    alphabets: Alphabets
    limits: Limits

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]:
        """Return for each line the most probable label that its letters allow, or `UNKNOWN`, and the score of the wanted ones; ""
        and 0 without words."""
        labels = self.classifier.labels
        chances, n_words = predict_possible(self.classifier, self.alphabets, lines)
        best = np.where(chances.any(axis=1), chances.argmax(axis=1), len(labels))
        best[n_words == 0] = len(labels) + 1
        names = pa.array([*labels, UNKNOWN, ""], pa.string()).take(pa.array(best))
        score = chances[:, np.isin(labels, wanted)].sum(axis=1)
        return names, np.where(score > 0, shift(score, n_words, self.limits), 0.0)


def predict_possible(classifier: Classifier, alphabets: Alphabets, lines: pa.StringArray) -> tuple[Fractions, Rows]:
    """Return for each line the probability of each label among those that its letters allow, and its number of words."""
    fit = measure_fit(lines, alphabets)
    chances = np.where(fit.is_possible, predict(classifier, lines), 0.0)
    total = chances.sum(axis=1, keepdims=True)
    return np.where(total >= MIN_POSSIBLE, chances / np.maximum(total, MIN_POSSIBLE), 0.0), fit.n_words


def shift(score: Fractions, n_words: Rows, limits: Limits) -> Fractions:
    """Return the scores, calibrated by the number of words."""
    if not limits:
        return score
    required = np.array(limits)[np.clip(n_words, 1, len(limits)) - 1]
    return 1.0 / (1.0 + np.exp(required - compute_log_odds(score) - compute_log_odds(np.array(REFERENCE))))


def cut_spans(line: str) -> list[str]:
    """Return all spans of `SPAN_SIZES` words, overlapping ones too."""
    words = line.split()
    return [" ".join(words[i : i + n]) for n in SPAN_SIZES for i in range(len(words) - n + 1)]


def fit_limits(
    classifier: Classifier, alphabets: Alphabets, heldout: Sequence[tuple[str, str]], wanted: Sequence[str]
) -> Limits:
    """Return the limits that let `FALSE_PASSES` of the foreign spans pass, from pairs of label and held-out line. Without foreign
    lines there are none."""
    pairs = [(label, span) for label, line in heldout if label not in wanted for span in cut_spans(line)]
    labels = np.array([label for label, _ in pairs])
    chances, n_words = predict_possible(classifier, alphabets, pa.array([span for _, span in pairs], pa.string()))
    log_odds = compute_log_odds(chances[:, np.isin(classifier.labels, wanted)].sum(axis=1))
    group = np.minimum(n_words, len(FALSE_PASSES)) - 1
    limits: list[float] = []
    for index, frac in reversed(list(enumerate(FALSE_PASSES))):
        is_here = group == index
        if is_here.any():
            quantile = _compute_upper_quantile(log_odds[is_here], labels[is_here], frac)
            limits.append(max(quantile, limits[-1] if limits else MIN_LIMIT))
    return tuple(reversed(limits))


def _compute_upper_quantile(values: Fractions, labels: npt.NDArray[np.str_], frac: float) -> float:
    """Return the value that `frac` of the values exceed, where each label has the same weight."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-values, kind="stable")
    above = np.cumsum(1.0 / counts[codes[order]]) / len(counts)
    return float(values[order][min(int(np.searchsorted(above, frac)), len(values) - 1)])


def compute_log_odds(chances: Fractions) -> Fractions:
    """Return the log-odds of probabilities, finite for 0 and 1."""
    clipped = np.clip(chances, _EPSILON, 1.0 - _EPSILON)
    return np.log(clipped) - np.log1p(-clipped)
