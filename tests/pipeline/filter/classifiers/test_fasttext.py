"""Training is deterministic; invalid files are reported; models that only fastText can read give the same judgments."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.filter.classifiers import fasttext as fasttext_models
from pipeline.filter.classifiers.fasttext import (
    NativeFastText,
    append_note,
    check_same,
    load_model,
    read_model,
    read_note,
    train,
)
from pipeline.filter.classifiers.ngram_classifier import Classifier
from pipeline.frame.errors import UserError

WORDS = {
    "en": ["the", "of", "and", "to", "in", "is", "that", "for", "it", "as"],
    "de": ["der", "die", "und", "in", "den", "von", "zu", "das", "mit", "sich"],
}


def train_model(path: Path, **settings: Any) -> Path:
    rng = random.Random(3)
    lines = [f"__label__{name} {' '.join(rng.choices(words, k=6))}" for name, words in WORDS.items() for _ in range(50)]
    train(lines, path, label="__label__", **{"dim": 4, "bucket": 100, "epoch": 20, "lr": 0.5, "seed": 1, **settings})
    return path


def test_training_twice_writes_the_same_bytes_and_no_other_file(tmp_path: Path) -> None:
    assert train_model(tmp_path / "one.bin").read_bytes() == train_model(tmp_path / "two.bin").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.bin", "two.bin"]


def test_a_note_changes_no_prediction(tmp_path: Path) -> None:
    plain, noted = train_model(tmp_path / "plain.bin"), train_model(tmp_path / "noted.bin")
    append_note(noted, '{"letters": "aß"}')
    assert (read_note(plain), read_note(noted)) == ("", '{"letters": "aß"}')
    lines = pa.array(["the of and", "der die und"])
    assert (
        load_model(noted).judge(lines, ["__label__en"])[1].tolist()
        == load_model(plain).judge(lines, ["__label__en"])[1].tolist()
    )
    check_same(noted, lines)


def test_a_learning_rate_that_is_too_high_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learning_rate"):
        train_model(tmp_path / "model.bin", lr=1e9)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_hierarchical_softmax_is_predicted_by_fasttext_with_the_same_judgments(tmp_path: Path) -> None:
    tree, flat = (
        load_model(train_model(tmp_path / "tree.bin", loss="hs")),
        load_model(train_model(tmp_path / "flat.bin")),
    )
    assert isinstance(tree, NativeFastText)
    assert isinstance(flat, Classifier)
    assert set(tree.labels) == set(flat.labels) == {"__label__en", "__label__de"}
    lines = pa.array(["the and of", "der die das", "", "in the von zu"])
    for wanted in (["__label__en"], ["__label__de"], ["__label__en", "__label__de"]):
        labels, score = tree.judge(lines, wanted)
        assert labels.to_pylist()[:3] == ["__label__en", "__label__de", ""]
        assert labels.to_pylist() == flat.judge(lines, wanted)[0].to_pylist()
        assert score == pytest.approx(flat.judge(lines, wanted)[1], abs=0.1)
        own = NativeFastText(read_model(tmp_path / "flat.bin"), flat.labels)
        assert own.judge(lines, wanted)[1] == pytest.approx(flat.judge(lines, wanted)[1], abs=1e-5)
    check_same(tmp_path / "tree.bin", lines)  # nothing to compare


def test_a_quantized_model_is_predicted_by_fasttext(tmp_path: Path) -> None:
    flat = train_model(tmp_path / "flat.bin", bucket=600, maxn=3, minn=1)
    small = read_model(flat)
    small.quantize()
    small.save_model(str(tmp_path / "small.ftz"))
    model = load_model(tmp_path / "small.ftz")
    assert isinstance(model, NativeFastText)
    labels, score = model.judge(pa.array(["the and of", "der die das"]), ["__label__en"])
    assert labels.to_pylist() == ["__label__en", "__label__de"]
    assert score == pytest.approx([1.0, 0.0], abs=0.2)


def test_a_rewritten_file_is_read_again(tmp_path: Path) -> None:
    first = load_model(train_model(tmp_path / "model.bin"))
    assert load_model(tmp_path / "model.bin") is first
    assert isinstance(load_model(train_model(tmp_path / "model.bin", loss="hs")), NativeFastText)


def test_files_that_are_no_classifier_are_reported(tmp_path: Path) -> None:
    (tmp_path / "page.bin").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"page\.bin: not a fastText model"):
        load_model(tmp_path / "page.bin")
    with pytest.raises(UserError, match=r"none\.bin: no such model"):
        load_model(tmp_path / "none.bin")
    (tmp_path / "text.txt").write_text("the norm of a matrix and so on\n" * 20)
    vectors = fasttext_models.fasttext.train_unsupervised(str(tmp_path / "text.txt"), dim=4, bucket=100, verbose=0)
    vectors.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(UserError, match=r"vectors\.bin: not a classifier"):
        load_model(tmp_path / "vectors.bin")


def test_a_kernel_that_differs_from_fasttext_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = train_model(tmp_path / "model.bin")
    model = load_model(path)
    assert isinstance(model, Classifier)
    monkeypatch.setattr(fasttext_models, "load_model", lambda _: model._replace(rows=model.rows * np.float32(1.1)))
    check_same(path, pa.array([""]))
    with pytest.raises(ValueError, match="disagree by"):
        check_same(path, pa.array(["the of", "der"]))
