"""The composition of the training data: every training row counts once, under its own source and license."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.evaluate.trained_on.composition import measure_composition
from pipeline.storage.tables import write_table


@pytest.mark.parametrize("has_origin", [True, False])
def test_training_rows_are_counted_by_source_and_license(tmp_path: Path, has_origin: bool) -> None:
    for name in ("shards", "conversations"):
        (tmp_path / name).mkdir()
    docs = {
        "split": ["train", "val", "train", "train"],
        "source": ["web", "web", "books", "web"],
        "license": ["MIT", "MIT", "CC0-1.0", "BSD-3-Clause"],
        "n_tokens": [10, 99, 200, 7],
        "n_bytes": [30, 300, 600, 20],
    }
    write_table(tmp_path / "shards/docs.parquet", pa.table(docs))
    chats = {"messages": ['[{"é": 1}]', "[]"]}
    origin = {"source": ["seed", None], "license": ["MIT", None]} if has_origin else {}
    write_table(tmp_path / "conversations/train.parquet", pa.table(chats | origin))
    found = measure_composition(tmp_path / "shards", tmp_path / "conversations")
    assert [tuple(row.values()) for row in found["documents"]] == [
        ("books", "CC0-1.0", 1, 200, 600),
        ("web", "MIT", 1, 10, 30),
        ("web", "BSD-3-Clause", 1, 7, 20),
    ]
    rows = [tuple(row.values()) for row in found["conversations"]]
    assert rows == ([("seed", "MIT", 1, 11), ("", "", 1, 2)] if has_origin else [("", "", 2, 13)])
