"""Words, thresholds and calibration of the quality classifier follow their definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.classifiers.quality import (
    NEGATIVE,
    POSITIVE,
    calibrate,
    compute_auc,
    extract_quality_words,
    find_top_frac_threshold,
    flatten_calibration,
    make_training_lines,
    score_quality,
)
from pipeline.filter.steps import make_quality_step
from pipeline.text.columns import Fractions

SCORES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.99, 1.0]), st.booleans()), max_size=30)


def test_only_the_beginning_is_used_and_no_word_is_a_label() -> None:
    texts = pa.array(["#positive  The  Norm, of a Matrix", "#negative\n</s> ÉLAN __label__x", "", "größe" * 100])
    words = extract_quality_words(texts, 30).to_pylist()
    assert words == ["positive the norm of a mat", "negative s élan __label__x", "", "größe" * 6]


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9),
    st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=9),
)
def test_classes_are_balanced_and_every_example_is_used(positives: list[str], negatives: list[str]) -> None:
    lines = list(make_training_lines(positives, negatives, seed=1))
    n = max(len(positives), len(negatives))
    assert Counter(line.split()[0] for line in lines) == {POSITIVE: n, NEGATIVE: n}
    assert {line.removeprefix(f"{POSITIVE} ") for line in lines if line.startswith(POSITIVE)} == set(positives)
    assert {line.removeprefix(f"{NEGATIVE} ") for line in lines if line.startswith(NEGATIVE)} == set(negatives)
    assert lines == list(make_training_lines(positives, negatives, seed=1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_the_best_fraction_is_kept_and_only_ties_exceed_it(scores: list[float], keep_frac: float) -> None:
    column = np.array(scores)
    threshold = find_top_frac_threshold(column, keep_frac)
    assert (column >= threshold).mean() >= keep_frac - 1e-12
    assert (column > threshold).sum() < keep_frac * len(column)


def test_the_rule_uses_the_stored_score() -> None:
    scores = np.arange(100) / 100
    step = make_quality_step(lambda texts: np.zeros(len(texts)), 0.3)
    assert step.rules[0][:4] == ("quality_classifier", "quality_score", "min", 0.3)
    assert find_top_frac_threshold(scores, 0.1) == 0.9
    assert find_top_frac_threshold(scores[:0], 0.1) == 0.0


@given(SCORES)
def test_auc_is_the_probability_that_a_positive_scores_above_a_negative(rows: list[tuple[float, bool]]) -> None:
    scores, is_positive = np.array([s for s, _ in rows]), np.array([p for _, p in rows], bool)
    pairs = [(p > n) + (p == n) / 2 for p in scores[is_positive] for n in scores[~is_positive]]
    expected = sum(pairs) / len(pairs) if pairs else 0.5
    assert compute_auc(scores, is_positive) == pytest.approx(expected)


@given(SCORES)
def test_every_text_is_in_one_bin(rows: list[tuple[float, bool]]) -> None:
    scores, is_positive = np.array([s for s, _ in rows]), np.array([p for _, p in rows], bool)
    calibration = calibrate(scores, is_positive)
    assert sum(calibration.n_docs) == len(rows)
    assert sum(calibration.n_positive) == sum(is_positive)
    assert all(calibration.n_positive <= calibration.n_docs)
    assert calibration.n_docs[9] == sum(s >= 0.9 for s, _ in rows)
    metrics = flatten_calibration(calibration)
    assert metrics["quality_bin_10_docs"] == sum(0.1 <= s < 0.2 for s, _ in rows)
    assert len(metrics) == 21
    assert all(type(value) in (int, float) for value in metrics.values())


class FakeModel:
    """Give score 1 to lines that begin with "good"."""

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]:
        assert list(wanted) == [POSITIVE]
        return lines, np.array([float(line.startswith("good")) for line in lines.to_pylist()])


def test_the_score_is_the_probability_of_the_positives() -> None:
    assert score_quality(FakeModel(), pa.array(["Good text", "bad", ""]), 100).tolist() == [1.0, 0.0, 0.0]
