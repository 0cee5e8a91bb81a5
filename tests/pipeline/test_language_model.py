"""Sentences that can't be learnt from are named; the model is the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.language_model import load_model, read_sentences, train_language
from pipeline.params import Language, load_params

ROOT = Path(__file__).parents[2]
LANGUAGES = ROOT / "data" / "seed" / "languages"


@pytest.fixture(scope="module")
def hasty() -> Language:
    quick = {"n_epochs": 4, "n_spans": 0, "n_mixed": 0, "keep_weight": 1, "n_buckets": 20_000}
    return load_params(ROOT / "params.yaml").filter.language.model_copy(update=quick)


def test_training_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path, hasty: Language) -> None:
    figures = [train_language(hasty, LANGUAGES, tmp_path / f"{name}.bin") for name in ("one", "two")]
    assert figures[0] == figures[1]
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "two.bin").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.bin", "two.bin"]
    labels, chances = load_model(tmp_path / "one.bin").predict(["the norm of a matrix along the axis"], k=1)
    assert labels[0][0] == "__label__en"
    assert chances[0][0] > 0.5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no sentences to learn from"),
        ({"de": "Guten Tag.\n"}, "no sentences to learn from"),
        ({"en": "Good day.\n"}, "only one language"),
    ],
)
def test_missing_sentences_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_sentences(tmp_path, ["en"])


def test_sentences_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_bytes(b"na\xefve\n")
    with pytest.raises(UserError, match=r"en\.txt: not UTF-8"):
        read_sentences(tmp_path, ["en"])


def test_our_own_sentences_are_enough() -> None:
    sentences = read_sentences(LANGUAGES, ["en"])
    counts: dict[str, int] = {}
    for sentence in sentences:
        counts[sentence.language] = counts.get(sentence.language, 0) + 1
    assert len(counts) >= 25
    assert min(counts.values()) >= 60
