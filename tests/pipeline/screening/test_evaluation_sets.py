"""Evaluation sets are read from files of each kind, and errors in them are reported."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.filter.decisions import find_first_broken
from pipeline.filter.steps import make_overlap_rule
from pipeline.frame.errors import UserError
from pipeline.screening.contamination import Leaks, measure_overlap
from pipeline.screening.evaluation_sets import (
    count_contaminated_docs,
    count_leak_ngrams,
    load_leaks,
    read_leaks,
    read_set,
    write_leaks,
)
from pipeline.screening.params import Decontamination, EvaluationSet
from pipeline.text.normalize import fold, split_words

ROWS: list[dict[str, Any]] = [
    {
        "question": "How many apples does a farmer with three trees have in the autumn of a good year?",
        "choices": {"text": ["ten", "two"]},
    },
    {
        "question": "Why is the sky over the desert so blue that it hurts the eyes of a traveller?",
        "choices": {"text": []},
    },
]


def read_test_leaks(path: Path, fields: list[str]) -> Leaks:
    sets = {"sets": [{"name": "ours", "path": path.name, "fields": fields}]}
    return read_leaks(Decontamination.model_validate(sets), path.parent)


def read_labels(path: Path, fields: list[str]) -> list[tuple[str, str]]:
    return list(read_set(EvaluationSet(name="ours", path=path.name, fields=fields), path.parent, "x"))


def write_set(tmp_path: Path, kind: str) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    path = tmp_path / f"test{kind}"
    match kind:
        case ".jsonl":
            path.write_text("\ufeff" + lines + "\n", encoding="utf-8")
        case ".jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        case ".json":
            path.write_text(json.dumps(ROWS, indent=1), encoding="utf-16")
        case ".json.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case ".json.zst":
            path.write_bytes(zstandard.compress(json.dumps(ROWS).encode()))
        case ".csv" | ".tsv":
            delimiter = {".csv": ",", ".tsv": "\t"}[kind]
            rows = [["number", "question"], *([str(at), f'"{row["question"]}"'] for at, row in enumerate(ROWS))]
            path.write_text("".join(delimiter.join(row) + "\r\n" for row in rows), encoding="utf-8-sig")
        case ".arrow":
            table = pa.Table.from_pylist(ROWS)
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
        case _:
            path.write_text("\n\n".join(row["question"] for row in ROWS), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind",
    [".jsonl", ".jsonl.gz", ".parquet", ".txt", ".json", ".json.gz", ".json.zst", ".csv", ".tsv", ".arrow"],
)
def test_each_kind_of_file_gives_the_same_items(tmp_path: Path, kind: str) -> None:
    path = write_set(tmp_path, kind)
    items = read_labels(path, [] if kind == ".txt" else ["question"])
    rows = (1, 3) if kind == ".txt" else (1, 2)
    assert items == [(f"ours:test{kind}#{row}", each["question"]) for row, each in zip(rows, ROWS, strict=True)]
    leaks = read_test_leaks(path, [] if kind == ".txt" else ["question"])
    text = split_words(fold(pa.array([f"Quiz. {ROWS[1]['question']}", "Nothing to see here."])))
    assert measure_overlap(text, leaks).column("leak_item").to_pylist() == [items[1][0], ""]
    assert count_leak_ngrams(leaks) == {"decontamination_ours_ngrams": 10, "decontamination_ours_too_short": 0}


def test_a_table_without_a_header_has_numbered_fields(tmp_path: Path) -> None:
    rows = "".join(f'"{row["question"]}",1801,1802,A\n' for row in ROWS)
    (tmp_path / "mmlu.csv").write_text(rows, encoding="utf-8")
    items = read_labels(tmp_path / "mmlu.csv", ["1"])
    assert items == [(f"ours:mmlu.csv#{at}", row["question"]) for at, row in enumerate(ROWS, 1)]
    with pytest.raises(UserError, match=r"no row has question[^$]+1801"):
        read_labels(tmp_path / "mmlu.csv", ["question"])


def test_dotted_fields_and_folders(tmp_path: Path) -> None:
    write_set(tmp_path, ".jsonl")
    write_set(tmp_path, ".parquet")
    items = read_labels(tmp_path, ["choices.text"])
    assert items == [(f"ours:test{kind}#1", text) for kind in (".jsonl", ".parquet") for text in ("ten", "two")]
    assert read_labels(tmp_path / "*.jsonl", ["choices.text"]) == items[:2]


def test_the_file_for_workers_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    leaks = read_test_leaks(write_set(tmp_path, ".jsonl"), ["question", "choices.text"])
    write_leaks(tmp_path / "a.parquet", leaks)
    write_leaks(tmp_path / "b.parquet", load_leaks(tmp_path / "a.parquet"))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert count_leak_ngrams(load_leaks(tmp_path / "b.parquet")) == count_leak_ngrams(leaks)
    assert count_leak_ngrams(leaks)["decontamination_ours_too_short"] == 2


def test_dropped_documents_are_counted_by_set(tmp_path: Path) -> None:
    path = write_set(tmp_path, ".jsonl")
    (tmp_path / "sky.txt").write_text("A cat that sat on the mat of a hat never saw a rat", encoding="utf-8")
    sets = [
        {"name": "quiz", "path": path.name, "fields": ["question"]},
        {"name": "cats", "path": "sky.txt"},
    ]
    leaks = read_leaks(Decontamination.model_validate({"sets": sets}), tmp_path)
    one, two, cat = ROWS[0]["question"], ROWS[1]["question"], "a cat that sat on the mat of a hat never saw a rat"
    texts = [f"{one} {two}", f"{cat}. {one}", f"It is said: {cat}", "A cat sat on the mat.", two]
    scores = pa.Table.from_batches([measure_overlap(split_words(fold(pa.array(texts))), leaks)])
    broken = find_first_broken(scores, [make_overlap_rule(0)]) == 0
    assert broken.tolist() == [True, True, True, False, True]
    assert count_contaminated_docs(scores, broken) == {"contaminated_quiz_docs": 3, "contaminated_cats_docs": 2}
    broken[0] = False
    assert count_contaminated_docs(scores, broken) == {"contaminated_quiz_docs": 2, "contaminated_cats_docs": 2}
    few = find_first_broken(scores, [make_overlap_rule(5)]) == 0
    assert few.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "data", "fields", "message"),
    [
        ("a.jsonl", b'{"question": "x"}\n', ["answer"], "no row has answer"),
        ("a.jsonl", b'{"question": "x"}\n', [], "no fields are named"),
        ("a.jsonl", b'{"question": "x"}\nnothing\n', ["question"], "line 2 is not JSON"),
        ("a.jsonl", b"[1]\n", ["question"], "line 1 is not a JSON object"),
        ("a.jsonl", b'{"question": ""}\n', ["question"], "no row has question"),
        ("a.jsonl", b"\xff\n", ["question"], "not readable"),
        ("a.jsonl.gz", b"no gzip", ["question"], "not readable"),
        ("a.parquet", b"no parquet", ["question"], "not readable"),
        ("a.csv", b"question\n", ["question"], "no row has question"),
        ("a.csv", b"question\na,b\n", ["question"], "row 1 has another number of fields"),
        ("a.json", b'[{"question": "x"}, {"que', ["question"], "line 2 is not JSON"),
        ("a.pdf", b"%PDF", ["question"], "this kind of file"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ["question"], "git lfs pull"),
        ("a.txt", b"\n \n", [], "no texts"),
    ],
)
def test_errors_in_files_are_reported(tmp_path: Path, name: str, data: bytes, fields: list[str], message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_test_leaks(tmp_path / name, fields)


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sets\.0\.path"):
        read_test_leaks(tmp_path / "none.jsonl", ["question"])
