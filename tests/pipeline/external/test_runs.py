"""Sorted runs: whatever the cuts, the same rows in order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.external import runs as spool
from pipeline.external.runs import document_runs, in_order_of_id, merged_rejects, reject_runs, run_paths
from pipeline.tables import DOCS, REJECTS

NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=4)


def document(number: int, text: str) -> dict[str, str]:
    named = dict.fromkeys(DOCS.names, "")
    return {**named, "id": xxhash.xxh3_128_hexdigest(str(number).encode()), "text": text}


@settings(deadline=None, max_examples=40)
@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 40), NAMES), max_size=12), max_size=8),
    run_bytes=st.integers(500, 9_000),
)
def test_documents_come_in_order_of_their_ids_and_twins_in_order_of_reading(
    batches: list[list[tuple[int, str]]], run_bytes: int
) -> None:
    rows = [[document(number, text) for number, text in batch] for batch in batches]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "RUN_BYTES", run_bytes)
        runs = document_runs(Path(folder))
        for batch in rows:
            runs.write(pa.RecordBatch.from_pylist(batch, DOCS))
        runs.flush()
        tables = list(in_order_of_id(run_paths([Path(folder)], "docs")))
        found = [row for table in tables for row in table.to_pylist()]
        ids = [set(table.column("id").to_pylist()) for table in tables]
    assert found == sorted((row for batch in rows for row in batch), key=lambda row: row["id"])
    assert sum(map(len, ids)) == len(set[str]().union(*ids))  # no id in two tables


def test_a_range_that_is_too_large_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "RUN_BYTES", 4_000)
    runs = document_runs(tmp_path)
    crowd = [{**dict.fromkeys(DOCS.names, ""), "id": f"{number:032x}", "text": "x" * 100} for number in range(500)]
    runs.write(pa.RecordBatch.from_pylist(crowd, DOCS))
    runs.flush()
    tables = list(in_order_of_id(run_paths([tmp_path], "docs")))
    assert max(table.nbytes for table in tables) <= 2 * spool.RUN_BYTES
    assert [row["id"] for table in tables for row in table.to_pylist()] == [row["id"] for row in crowd]


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(NAMES, NAMES, NAMES, NAMES), max_size=60),
    run_rows=st.integers(1, 10),
    fan_in=st.integers(2, 4),
    merge_rows=st.integers(1, 5),
)
def test_rejects_are_merged_in_order(rows: list[tuple[str, ...]], run_rows: int, fan_in: int, merge_rows: int) -> None:
    named = [dict(zip(REJECTS.names, row, strict=True)) for row in rows]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "RUN_REJECTS", run_rows)
        patch.setattr(spool, "FAN_IN", fan_in)
        patch.setattr(spool, "MERGE_ROWS", merge_rows)
        runs = reject_runs(Path(folder))
        for row in named:
            runs.write(pa.RecordBatch.from_pylist([row], REJECTS))
        runs.flush()
        tables = list(merged_rejects(run_paths([Path(folder)], "rejects"), Path(folder)))
    found = pa.concat_tables([REJECTS.empty_table(), *tables])
    expected = pa.Table.from_pylist(named, REJECTS).sort_by([(name, "ascending") for name in REJECTS.names])
    assert found.to_pylist() == expected.to_pylist()
