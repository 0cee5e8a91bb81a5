"""The kernel equals fastText: same labels and probabilities for any words and model settings."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.filter.classifiers import ngram_classifier
from pipeline.filter.classifiers.fasttext import ADDED, check_same, load_model, read_model, train
from pipeline.filter.classifiers.ngram_classifier import Classifier, predict

SETTINGS: dict[str, dict[str, Any]] = {
    "letters": {"minn": 2, "maxn": 4, "wordNgrams": 1, "bucket": 500, "dim": 8},
    "words": {"minn": 0, "maxn": 0, "wordNgrams": 1, "bucket": 0, "dim": 8},
    "pairs": {"minn": 0, "maxn": 0, "wordNgrams": 2, "bucket": 700, "dim": 2},
    "pairs, rare words have no row": {"minn": 0, "maxn": 0, "wordNgrams": 3, "bucket": 700, "dim": 2, "minCount": 105},
    "all, fewer labels than dimensions": {"minn": 1, "maxn": 3, "wordNgrams": 4, "bucket": 300, "dim": 16},
}
VOCABULARY = ["the", "norm", "of", "eine", "größe", "это", "数", "組", "naïve", "🙂", "x", "a", "ß", "日本語"]
LINES = st.lists(
    st.lists(
        st.one_of(
            st.sampled_from(VOCABULARY),
            st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="#<"), min_size=1),
        ),
        max_size=12,
    ).map(" ".join),
    max_size=8,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    rng, folder = random.Random(1), tmp_path_factory.mktemp("models")
    lines = [f"#{rng.choice('abc')} {' '.join(rng.choices(VOCABULARY, k=rng.randint(1, 9)))}" for _ in range(300)]
    paths = {name: folder / f"{index}.bin" for index, name in enumerate(SETTINGS)}
    for name, path in paths.items():
        train(lines, path, label="#", lr=0.5, epoch=20, seed=1, **SETTINGS[name])
    return paths


@pytest.mark.parametrize("name", SETTINGS)
@given(lines=LINES)
@settings(max_examples=40)
def test_probabilities_equal_fasttexts(models: dict[str, Path], name: str, lines: list[str]) -> None:
    model, theirs = load_model(models[name]), read_model(models[name])
    assert isinstance(model, Classifier)
    predicted = predict(model, pa.array(lines, pa.string()))
    assert predicted.shape == (len(lines), 3)
    for line, row in zip(lines, predicted, strict=True):
        if not line:
            assert not row.any()
            continue
        labels, expected = theirs.predict(line, k=-1)
        probabilities = [row[model.labels.index(label)] + ADDED for label in labels]
        assert probabilities == pytest.approx(expected, abs=2e-6)
        assert sum(row) == pytest.approx(1.0)
    check_same(models[name], pa.array(lines, pa.string()))


@pytest.mark.parametrize("name", SETTINGS)
def test_predictions_do_not_depend_on_other_lines(models: dict[str, Path], name: str) -> None:
    rng = random.Random(2)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 7))) for _ in range(30_000)]  # more than the cache holds
    lines = pa.array([" ".join(rng.choices(words, k=20)) for _ in range(4_000)])
    model = load_model(models[name])
    assert isinstance(model, Classifier)
    together = predict(model, lines)
    assert np.array_equal(predict(model, lines.slice(3_000)), together[3_000:])
    assert np.array_equal(predict(model, lines.take(pa.array([7, 3_999]))), together[[7, 3_999]])
    assert len(words) > ngram_classifier.N_KEPT


def test_fewer_labels_than_dimensions_make_narrow_rows(models: dict[str, Path]) -> None:
    model = load_model(models["all, fewer labels than dimensions"])
    assert isinstance(model, Classifier)
    assert model.rows.shape[1] == len(model.labels) == 3


def test_a_judgment_is_the_top_label_and_the_probability_of_the_wanted_ones(models: dict[str, Path]) -> None:
    model = load_model(models["letters"])
    assert isinstance(model, Classifier)
    lines = pa.array(["the norm", "это 数", ""])
    predicted = predict(model, lines)
    labels, score = model.judge(lines, ["#a", "#c", "#unknown"])
    assert labels.to_pylist() == [*(model.labels[i] for i in predicted[:2].argmax(axis=1)), ""]
    assert score == pytest.approx([*(1 - predicted[:2, model.labels.index("#b")]), 0.0])


def test_an_empty_column_gives_empty_judgments(models: dict[str, Path]) -> None:
    model = load_model(models["letters"])
    labels, score = model.judge(pa.array([], pa.string()), ["#a"])
    assert len(labels) == len(score) == 0
