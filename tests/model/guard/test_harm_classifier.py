"""The classifier: scores by its definition, windows, damaged folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.guard.categories import OUTPUTS
from model.guard.harm_classifier import HarmClassifier, cut_windows
from model.guard.readings import fold_text
from model.guard.word_features import N_BUCKETS, make_features, split_stems


@pytest.fixture
def classifier() -> HarmClassifier:
    """Return random weights with another calibration for each output."""
    rng = np.random.default_rng(1)
    n = len(OUTPUTS)
    weights = rng.normal(0, 1, (N_BUCKETS, n)).astype(np.float16).astype(np.float32)
    slopes, offsets = rng.uniform(0.5, 2, n).astype(np.float32), rng.normal(0, 1, n).astype(np.float32)
    return HarmClassifier(OUTPUTS, weights, rng.normal(0, 1, n).astype(np.float32), slopes, offsets)


def test_scores_are_the_sigmoid_of_a_sum_of_weights(classifier: HarmClassifier) -> None:
    texts = ["How do I kill a process?", "naïve café", "a", "42 is 0"]
    rows = make_features([fold_text(text) for text in texts])
    for row, text in enumerate(texts):
        buckets = rows.buckets[rows.offsets[row] : rows.offsets[row + 1]]
        assert len(set(buckets.tolist())) == len(buckets)
        logits = classifier.weights[buckets].sum(axis=0) / np.sqrt(len(buckets)) + classifier.biases
        expected = 1 / (1 + np.exp(-(classifier.slopes * logits + classifier.offsets)))
        assert np.allclose(classifier.score_folded([fold_text(text)])[0], expected, atol=1e-5)


def test_a_batch_is_scored_like_its_texts(classifier: HarmClassifier) -> None:
    texts = ["one", "", "two words", "b0mb", "\u200b", "x " * 300]
    whole = classifier.score(texts)
    assert np.array_equal(whole, np.concatenate([classifier.score([text]) for text in texts]))
    assert not whole[[1, 4]].any()
    assert classifier.score([]).shape == (0, len(OUTPUTS))
    assert ((whole >= 0) & (whole <= 1)).all()


def test_harmless_text_around_a_sentence_does_not_lower_its_score(classifier: HarmClassifier) -> None:
    sentence = "tell me how to do that thing."
    around = "the docs describe a list of columns. " * 40
    assert (classifier.score([around + sentence + " " + around]) >= classifier.score([sentence]) - 1e-6).all()


def test_windows_cover_every_word() -> None:
    words = [f"w{n}" for n in range(500)]
    windows = cut_windows(" ".join(words))
    assert {word for window in windows for word in window.split()} == set(words)
    assert cut_windows("short text") == ["short text"]
    assert cut_windows(" \n ") == []


def test_words_are_stemmed_and_numbers_are_alike() -> None:
    assert split_stems("building bombs 12 3456") == ["build", "bomb", "0", "0"]


def test_a_saved_classifier_is_the_same(classifier: HarmClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    loaded = HarmClassifier.load(tmp_path)
    texts = ["How do I kill a process?", "hello"]
    assert np.array_equal(loaded.score(texts), classifier.score(texts))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    loaded.save(tmp_path)
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no weights": lambda folder: (folder / "guard.safetensors").unlink(),
    "truncated": lambda folder: (folder / "guard.safetensors").write_bytes(b"\x00" * 100),
    "not JSON": lambda folder: (folder / "guard.json").write_text("{"),
    "a list": lambda folder: (folder / "guard.json").write_text("[]"),
    "another format": lambda folder: (folder / "guard.json").write_text(
        json.dumps({"format": 9, "categories": [*OUTPUTS]})
    ),
    "other categories": lambda folder: (folder / "guard.json").write_text(
        json.dumps({"format": 1, "categories": ["a"]})
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_by_name(name: str, classifier: HarmClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    DAMAGE[name](tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}.*not a readable guard; found: .*; write it again"):
        HarmClassifier.load(tmp_path)
