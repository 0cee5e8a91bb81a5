"""Tables written in pieces do not depend on how they were split."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frame.errors import UserError
from pipeline.storage.arrow import map_batches, write_batches
from pipeline.storage.tables import (
    DOCS,
    LEDGER,
    ROW_GROUP,
    ShardWriter,
    TableWriter,
    count_docs,
    list_shards,
    read_batches,
    read_parquet_stream,
    read_rows_between,
    read_table,
    read_training_batches,
    rechunk,
    write_table,
)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_rechunk_returns_the_same_rows(sizes: list[int], n_rows: int) -> None:
    whole = pa.table({"n": pa.array(range(sum(sizes)))})
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    pieces = list(rechunk((whole.slice(start, n) for start, n in zip(starts, sizes, strict=True)), n_rows))
    assert [row for piece in pieces for row in piece["n"].to_pylist()] == list(range(sum(sizes)))
    assert all(piece.num_rows == n_rows for piece in pieces[:-1])
    assert all(0 < piece.num_rows <= n_rows for piece in pieces)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=30),
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(1, 7),
    st.integers(1, 50),
)
def test_long_texts_make_short_tables(lengths: list[int], sizes: list[int], n_rows: int, text_bytes: int) -> None:
    whole = pa.table({"text": pa.array(["x" * length for length in lengths], pa.string())})
    cuts = sorted({min(sum(sizes[:at]), len(lengths)) for at in range(len(sizes) + 1)} | {0, len(lengths)})
    pieces = [whole.slice(start, stop - start) for start, stop in itertools.pairwise(cuts)]
    expected: list[list[int]] = [[]]
    for length in lengths:
        expected[-1].append(length)
        if len(expected[-1]) == n_rows or sum(expected[-1]) >= text_bytes:
            expected.append([])
    found = [[len(text) for text in table["text"].to_pylist()] for table in rechunk(pieces, n_rows, text_bytes)]
    assert found == [each for each in expected if each]


@pytest.mark.parametrize("n_rows", [0, 1, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP + 1, 40_000])
@pytest.mark.parametrize("piece", [1_000, 50_000])
def test_a_table_in_pieces_is_the_same_file(n_rows: int, piece: int, tmp_path: Path) -> None:
    row = {"stage": "s", "decision": "dropped", "reason": "r", "value": 1.0, "threshold": None, "other_id": "o"}
    table = pa.Table.from_pylist([{**row, "id": f"{number:032x}"} for number in range(n_rows)], LEDGER)
    write_table(tmp_path / "whole.parquet", table)
    with TableWriter(tmp_path / "pieces.parquet", LEDGER) as writer:
        for start in range(0, n_rows, piece):
            writer.write(table.slice(start, piece))
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_mapped_batches_are_those_written(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "c"], "n": [1, 2, 3]})
    rows = write_batches(tmp_path / "run.arrow", table.schema, [*table.to_batches(), *table.slice(1).to_batches()])
    assert rows == [3, 2]
    found = map_batches(tmp_path / "run.arrow").read_all()
    (tmp_path / "run.arrow").unlink()
    assert found.to_pylist() == table.to_pylist() + table.slice(1).to_pylist()


def write_parquet(table: pa.Table, **options: int) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return io.BytesIO(sink.getvalue())


def test_only_named_columns_and_nested_fields_are_read() -> None:
    meta = [{"url": "https://a", "by": {"name": "A"}}, {"url": None, "by": None}]
    table = pa.table({"text": ["one", "two"], "meta": meta, "more": [[1], [2]], "a.b": ["x", "y"]})
    rows = list(read_parquet_stream(write_parquet(table), ["text", "meta.url", "meta.by.name", "meta.no", "a.b", "no"]))
    assert rows == [{"text": "one", "meta": meta[0], "a.b": "x"}, {"text": "two", "meta": meta[1], "a.b": "y"}]
    assert [set(row) for row in read_parquet_stream(write_parquet(table), ["no", "meta.no"])] == [
        set(table.schema.names)
    ] * 2


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()]
)
def test_every_type_of_text_column_is_read(kind: pa.DataType) -> None:
    texts = pa.array([f"text {number % 7}" for number in range(5_000)])
    column = texts.cast(kind) if kind != pa.string_view() else texts.cast(pa.string_view())
    found = [
        row["text"]
        for row in read_parquet_stream(write_parquet(pa.table({"text": column}), row_group_size=900), ["text"])
    ]
    assert [text.decode() if isinstance(text, bytes) else text for text in found] == texts.to_pylist()


def test_no_rows_give_a_file_with_the_columns(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "given", LEDGER):
        pass
    with TableWriter(tmp_path / "first") as writer:
        writer.write(LEDGER.empty_table())
    for name in ("given", "first"):
        assert read_table(tmp_path / name).schema.names == LEDGER.names


@pytest.mark.parametrize(
    "read",
    [
        count_docs,
        lambda folder: list(read_batches(folder)),
        lambda folder: read_table(folder / "docs-00000.parquet"),
        lambda folder: read_rows_between([folder / "docs-00000.parquet"], "", "f"),
    ],
)
def test_every_reader_names_a_broken_file(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "docs-00000.parquet"
    write_table(path, pa.Table.from_pylist([{"id": "a", "text": "x" * 1_000}], schema=DOCS))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"docs-00000\.parquet: not a readable Parquet file"):
        read(tmp_path)


@pytest.mark.parametrize("found", ["no such folder", "a file", "an empty folder", "other files"])
def test_a_folder_without_documents_is_refused_with_what_is_there(tmp_path: Path, found: str) -> None:
    folder = tmp_path / "docs"
    if found == "a file":
        folder.write_text("text")
    elif found != "no such folder":
        folder.mkdir()
    if found == "other files":
        (folder / "notes.txt").write_text("text")
    with pytest.raises(UserError) as caught:
        list_shards(folder)
    assert caught.value.found == found
    assert "make run" in caught.value.do


def test_training_readers_leave_out_what_is_for_search_only(tmp_path: Path) -> None:
    flags = [False, True, None, True, False]
    rows = [{"id": str(at), "text": f"text {at}", "is_search_only": flag} for at, flag in enumerate(flags)]
    with ShardWriter(tmp_path, shard_bytes=10) as writer:
        for row in rows:
            writer.write(pa.Table.from_pylist([row], schema=DOCS))
    batches = list(read_training_batches(tmp_path, ["text"]))
    assert [text for batch in batches for text in batch.column("text").to_pylist()] == ["text 0", "text 2", "text 4"]
    assert {tuple(batch.schema.names) for batch in batches} == {("text",)}
