"""Test that every type of Arrow is a value or a counted problem, from Parquet and from Arrow files."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from pipeline.storage.rows import read_rows
from pipeline.storage.values import RowProblem, list_values

DAYS = 3_000_000  # after 1970: the year 10183
TEXTS = ["one", None, "three"]


def write_parquet(table: pa.Table) -> io.BytesIO:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return io.BytesIO(sink.getvalue())


def write_file(table: pa.Table) -> io.BytesIO:
    sink: Any = io.BytesIO()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, 2)
    return io.BytesIO(sink.getvalue())


def write_stream(table: pa.Table) -> io.BytesIO:
    sink: Any = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, 2)
    return io.BytesIO(sink.getvalue())


WRITERS: dict[str, Callable[[pa.Table], io.BytesIO]] = {
    ".parquet": write_parquet,
    ".arrow": write_file,
    ".feather": write_stream,
}


def read(kind: str, table: pa.Table, *columns: str) -> list[Any]:
    return [row for _, row in read_rows(kind, WRITERS[kind](table), columns)]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS, pa.string()),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array(TEXTS, pa.binary()),
        pa.array(TEXTS, pa.binary_view()),
    ],
    ids=lambda column: str(column.type),
)
def test_strings_of_every_type(kind: str, column: pa.Array) -> None:
    rows = read(kind, pa.table({"text": column}), "text")
    assert [
        row["text"] and (bytes(row["text"], "utf-8") if isinstance(row["text"], str) else row["text"]) for row in rows
    ] == [
        b"one",
        None,
        b"three",
    ]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, DAYS], pa.date32()), [date(1970, 1, 2), "10183-09-21"]),
        (pa.array([86_400_000, DAYS * 86_400_000], pa.date64()), [date(1970, 1, 2), "10183-09-21"]),
        (pa.array([1, DAYS * 86_400], pa.timestamp("s")), None),
        (pa.array([1, DAYS * 86_400_000], pa.timestamp("ms")), None),
        (pa.array([1, DAYS * 86_400_000_000], pa.timestamp("us")), None),
        (pa.array([1, 2**62], pa.timestamp("ns")), None),
        (pa.array([1, DAYS * 86_400_000], pa.timestamp("ms", "Europe/Berlin")), None),
        (pa.array([1, 2], pa.timestamp("ms", "Nowhere/Land")), None),
        (pa.array([1, 2], pa.timestamp("ms", "+02:30")), None),
        (pa.array([1, 2**62], pa.duration("s")), [timedelta(seconds=1), str(2**62)]),
        (pa.array([1, 3], pa.duration("ns")), None),
        (pa.array([1, 2], pa.time32("s")), [time(0, 0, 1), time(0, 0, 2)]),
        (pa.array([1, 3], pa.time64("ns")), None),
        (pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)), [Decimal("1.50"), None]),
        (pa.array([Decimal(10) ** 60, None], pa.decimal256(70, 2)), [Decimal(10) ** 60, None]),
        (pa.array([[1], None], pa.list_(pa.int64())), [[1], None]),
        (pa.array([{"a": 1}, None]), [{"a": 1}, None]),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [[("k", 1)], None]),
        (pa.nulls(2), [None, None]),
        (pa.array([True, None]), [True, None]),
        (pa.array([1.5, None], pa.float16()), [1.5, None]),
        (pa.array([b"ab", None], pa.binary(2)), [b"ab", None]),
        (pa.array(['{"a": 1}', None], pa.json_()), ['{"a": 1}', None]),
        (pa.array([b"0123456789abcdef", None], pa.uuid()), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_type_is_a_value_with_a_text(kind: str, column: pa.Array, expected: list[object] | None) -> None:
    table = pa.table({"text": ["x"] * 2, "id": column})
    rows = read(kind, table, "text", "id")
    assert [row["text"] for row in rows] == ["x", "x"]
    values = [row["id"] for row in rows]
    assert all(str(value) for value in values)
    if expected is not None:
        assert values == expected


def test_types_that_only_arrow_has() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), pa.array(["a", "b"]))
    assert list_values(runs) == ["a", "b", "b"]
    months = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    assert str(list_values(months)[0])
    union = pa.UnionArray.from_dense(
        pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array(["a"]), pa.array([5])]
    )
    assert list_values(union) == ["a", 5]


@pytest.mark.parametrize("kind", WRITERS)
def test_only_wanted_columns_are_read_and_rows_without_the_text_name_the_others(kind: str) -> None:
    bad = pa.array([DAYS * 86_400_000_000] * 2, pa.timestamp("us"))
    table = pa.table({"body": ["a", "b"], "when": bad, "meta": [{"url": "u", "n": 1}] * 2})
    assert read(kind, table, "text", "title") == [dict.fromkeys(["body", "when", "meta"])] * 2
    assert read(kind, table, "body", "title") == [{"body": "a"}, {"body": "b"}]
    assert [row["meta"]["url"] for row in read(kind, table, "body", "meta.url")] == ["u", "u"]
    assert read(kind, table) == [dict.fromkeys(["body", "when", "meta"])] * 2
    assert read(kind, table[:0], "body") == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_field_beside_an_unreadable_one_is_read(kind: str) -> None:
    when = pa.StructArray.from_arrays([pa.array(["u", "v"]), pa.array([1, DAYS], pa.date32())], ["url", "day"])
    rows = read(kind, pa.table({"text": ["a", "b"], "meta": when}), "text", "meta.url")
    assert [row["meta"]["url"] for row in rows] == ["u", "v"]


@pytest.mark.parametrize("kind", WRITERS)
def test_text_that_is_not_utf8_is_returned_as_bytes(kind: str) -> None:
    bad = pa.array([b"good", b"\xff"]).view(pa.string())
    rows = read(kind, pa.table({"text": bad}), "text")
    assert [value if isinstance(value := row["text"], bytes) else value.encode() for row in rows] == [b"good", b"\xff"]


@pytest.mark.parametrize("kind", WRITERS)
def test_duplicate_column_names_do_not_raise(kind: str) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    assert read(kind, table, "text") == [{"text": "a"}]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_cannot_seek_is_read_up_to_a_limit(kind: str) -> None:
    class Forward(io.RawIOBase):
        def __init__(self, data: IO[bytes]) -> None:
            self.data = data

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any, /) -> int:
            data = self.data.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)

    def open_forward() -> Any:
        return io.BufferedReader(Forward(WRITERS[kind](pa.table({"text": TEXTS}))))

    rows = [row for _, row in read_rows(kind, open_forward(), ["text"])]
    assert rows == [{"text": text} for text in TEXTS]
    [(_, problem)] = read_rows(kind, open_forward(), ["text"], 100)
    assert isinstance(problem, RowProblem)
    assert problem.reason == "too_large"


@pytest.mark.parametrize("kind", [".arrow", ".feather"])
def test_offsets_that_lead_out_of_their_buffer_are_problems_of_their_rows(kind: str) -> None:
    data = WRITERS[kind](pa.table({"text": ["abc", "def", "ghi", "jkl"]})).getvalue()
    offsets = struct.pack("<3i", 0, 3, 6)
    assert data.count(offsets) == 2
    broken = data.replace(offsets, struct.pack("<3i", 0, 3, 10_000_000), 1)
    rows = [row for _, row in read_rows(kind, io.BytesIO(broken), ["text"])]
    assert [row.reason if isinstance(row, RowProblem) else row["text"] for row in rows] == [
        *("abc", "unreadable_value", "ghi", "jkl"),
    ]


@pytest.mark.parametrize("kind", [".arrow", ".feather"])
def test_one_bad_string_does_not_make_others_bytes(kind: str) -> None:
    for column in (
        pa.array([b"good", b"\xff"]).view(pa.string()),
        pa.array([b"good", b"\xff"]).cast(pa.large_binary()).view(pa.large_string()),
    ):
        assert [row["text"] for row in read(kind, pa.table({"text": column}), "text")] == ["good", b"\xff"]
