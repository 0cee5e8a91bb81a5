"""The quality classifier learns the class of its examples in any order, and is evaluated on held-out ones."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.filter.classifiers import quality_training as quality_model
from pipeline.filter.classifiers.fasttext import train
from pipeline.filter.classifiers.quality_training import read_examples, score_texts, train_quality
from pipeline.filter.params import ExampleFiles, QualityClassifier
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params
from pipeline.storage.tables import DOCS, ShardWriter
from tests.conftest import ROOT, read_yaml

GOOD = ["function", "returns", "matrix", "the", "sum", "of", "values", "along", "axis", "because", "therefore"]
BAD = ["cookie", "login", "menu", "subscribe", "now", "home", "share", "the", "of", "click", "privacy"]
SETTINGS: dict[str, Any] = {
    "positives": {"sources": ["docs/"]},
    "negatives": {"sources": ["web/"]},
    "keep_frac": 0.5,
    "dim": 8,
    "n_buckets": 2_000,
    "n_epochs": 20,
}


def make_texts(words: Sequence[str], n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=12)).capitalize() + "." for _ in range(n)]


def write_docs(folder: Path, rows: Iterable[tuple[str, str]]) -> Path:
    columns = dict.fromkeys(DOCS.names[:-1], "")
    docs = [{**columns, "id": str(n), "source": source, "text": text} for n, (source, text) in enumerate(rows)]
    with ShardWriter(folder) as writer:
        writer.write(pa.Table.from_pylist(docs, schema=DOCS))
    return folder


def make_params(**settings: Any) -> QualityClassifier:
    return QualityClassifier.model_validate({**SETTINGS, **settings})


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str]]:
    good, bad = make_texts(GOOD, 300, 1), make_texts(BAD, 500, 2)
    return [*(("docs/a", text) for text in good), *(("web/b", text) for text in bad), ("other", "Nothing.")]


def test_the_classes_are_separated_and_the_calibration_shows_it(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    docs, model = write_docs(tmp_path / "docs", rows), tmp_path / "quality.bin"
    calibration = train_quality(make_params(), docs, tmp_path, model)
    assert calibration.auc > 0.99
    assert 30 <= sum(calibration.n_docs) <= 130
    scores = score_texts(make_params(), model, pa.array([*make_texts(GOOD, 50, 3), *make_texts(BAD, 50, 4), ""]))
    assert min(scores[:50]) > max(scores[50:])
    assert scores[100] == 0.0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["quality.bin"]


def test_the_same_examples_give_the_same_bytes_in_any_order(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    shuffled = random.Random(5).sample(rows, len(rows))
    models = []
    for name, order in (("a", rows), ("b", shuffled), ("c", [*rows, *rows])):
        calibration = train_quality(
            make_params(max_docs=200), write_docs(tmp_path / name, order), tmp_path, tmp_path / f"{name}.bin"
        )
        models.append(((tmp_path / f"{name}.bin").read_bytes(), calibration.n_docs.tolist(), calibration.auc))
    assert models[0] == models[1] == models[2]


def test_examples_come_from_files_too_and_a_text_in_both_classes_is_a_positive(
    tmp_path: Path, rows: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def record_lines(lines: Iterable[str], path: Path, **settings: Any) -> None:
        seen.extend(lines)
        train(seen, path, **settings)

    monkeypatch.setattr(quality_model, "train", record_lines)
    more = make_texts([*GOOD, "filed"], 100, 6)
    (tmp_path / "more.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in more))
    file = {"path": "more.jsonl", "text_column": "body"}
    positives = {"sources": ["docs/"], "files": [file]}
    both = write_docs(tmp_path / "docs", [*rows, ("web/b", more[0])])
    calibration = train_quality(
        make_params(positives=positives, negatives={"sources": [""]}), both, tmp_path, tmp_path / "quality.bin"
    )
    sides = {line for line in seen if "filed" in line}
    assert sides
    assert {line.split()[0] for line in sides} == {"#positive"}
    positives_seen = sum(line.startswith("#positive") for line in seen)
    assert positives_seen == len(seen) - positives_seen, "the classes are balanced"
    n_trained = len(set(seen))
    distinct = len({text.lower() for _, text in rows} | {text.lower() for text in more})
    assert n_trained + sum(calibration.n_docs) == distinct, "held-out examples are not trained on"


@pytest.mark.parametrize(("side", "name"), [("positives", "docs/"), ("negatives", "web/")])
def test_too_few_examples_are_reported(tmp_path: Path, rows: list[tuple[str, str]], side: str, name: str) -> None:
    few = [row for row in rows if not row[0].startswith(name)] + [row for row in rows if row[0].startswith(name)][:5]
    with pytest.raises(UserError, match=f"filter.quality_classifier.{side}: too few examples") as caught:
        train_quality(make_params(), write_docs(tmp_path / "docs", few), tmp_path, tmp_path / "quality.bin")
    assert "5 different texts" in str(caught.value)


def test_a_missing_file_is_reported_with_its_setting(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    files = [{"path": "none.jsonl"}]
    docs = write_docs(tmp_path / "docs", rows)
    with pytest.raises(UserError, match=r"filter\.quality_classifier\.negatives\.files\.0\.path"):
        train_quality(make_params(negatives={"files": files}), docs, tmp_path, tmp_path / "quality.bin")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"min_score": 0.5}, "give either min_score or keep_frac"),
        ({"keep_frac": None}, "give either min_score or keep_frac"),
        ({"positives": {}}, "name sources of the corpus, or files"),
        ({"keep_frac": 0.0}, "greater than 0"),
    ],
)
def test_contradictory_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["filter"]["quality_classifier"] = {**SETTINGS, **changed}
    with pytest.raises(ParamError, match=message):
        check_params(values)
    values["filter"]["quality_classifier"] = SETTINGS
    assert check_params(values).filter.quality_classifier is not None


def test_scores_do_not_depend_on_the_batch(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    model = tmp_path / "quality.bin"
    train_quality(make_params(), write_docs(tmp_path / "docs", rows), tmp_path, model)
    column = pa.array([text for _, text in rows])
    together = score_texts(make_params(), model, column)
    apart = np.concatenate([score_texts(make_params(), model, column.slice(n, 7)) for n in range(0, len(column), 7)])
    assert np.array_equal(together, apart)


def test_examples_are_rows_or_whole_files_or_parts_of_files(tmp_path: Path) -> None:
    rows = [{"meta": {"text": "one"}}, {"meta": {"text": "two"}}, {"meta": {}}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "b.txt").write_text("\ufeffthree\n===\nfour\n===\n \n", encoding="utf-8")

    def read_texts(**settings: str) -> list[str]:
        return [text.strip() for text in read_examples(ExampleFiles.model_validate(settings), tmp_path, "x")]

    assert read_texts(path="*.jsonl.gz", text_column="meta.text") == ["one", "two"]
    assert read_texts(path="b.txt") == ["three\n===\nfour\n==="]
    assert read_texts(path="b.txt", split_on="===") == ["three", "four"]
    assert read_texts(path=".", text_column="meta.text", split_on="===") == ["one", "two", "three", "four"]
    with pytest.raises(UserError, match="x: no texts"):
        read_texts(path="a.jsonl.gz", text_column="body")
