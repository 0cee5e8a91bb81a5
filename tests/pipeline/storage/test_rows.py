"""Test reading rows of JSON and CSV: shapes of files, encodings, delimiters, and problems behind which reading continues."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import json_rows, streams
from pipeline.storage.rows import read_rows
from pipeline.storage.values import RowProblem

ROWS = [{"text": "one\u2028, é", "n": 1}, {"text": "two ]}", "n": [1, {"a": "}"}]}, {"text": "", "n": None}]


def read(kind: str, data: bytes, *columns: str, max_bytes: int = 1 << 20) -> list[Any]:
    rows = read_rows(kind, io.BytesIO(data), columns or ("text",), max_bytes)
    return [row.reason if isinstance(row, RowProblem) else dict(row) for _, row in rows]


SHAPES = {
    "lines": "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n",
    "blank lines": "\n\n" + "\n\n".join(json.dumps(row) for row in ROWS),
    "joined files": "".join(f"\ufeff{json.dumps(row)}\r\n" for row in ROWS),
    "text sequence": "".join(f"\x1e{json.dumps(row)}\n" for row in ROWS),
    "array": json.dumps(ROWS),
    "indented array": " \n" + json.dumps(ROWS, indent=2, ensure_ascii=False),
    "array of lines": "[\n" + ",\n".join(json.dumps(row) for row in ROWS) + "\n]\n",
    "indented objects": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "objects without spaces": "{\n" + "".join(json.dumps(row) for row in ROWS)[1:],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_json_file_of_any_shape_is_read(shape: str, encoding: str) -> None:
    assert read(".json", SHAPES[shape].encode(encoding)) == ROWS


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text() | st.integers() | st.floats(allow_nan=False), max_size=3))
)
def test_values_are_cut_anywhere(rows: list[dict[str, object]]) -> None:
    for text in (json.dumps(rows), "\n".join(json.dumps(row, indent=1) for row in rows)):
        for size in (1, 3, 50):
            chunks = (text[at : at + size] for at in range(0, len(text), size))
            assert list(json_rows.JsonValues(chunks, 10_000).read()) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", []),
        ("[", ["not_json"]),
        ('[{"text": "a"}', [{"text": "a"}, "not_json"]),
        ('[{"text": "a"}] x', [{"text": "a"}, "not_json"]),
        ('[{"text": "a"} {"text": "b"}]', [{"text": "a"}, "not_json"]),
        ('[{"text": "a"}, {"te', [{"text": "a"}, "not_json"]),
        ('[{"text": "a"}, x, {"text": "b"}]', [{"text": "a"}, "not_json"]),
        ('[1, {"text": "a"}, "s"]', ["not_json", {"text": "a"}, "not_json"]),
        ("[" * 100_000, ["not_json"]),
        ('{"text": "a"}\nnothing\n{"text": "b"}\n', [{"text": "a"}, "not_json", {"text": "b"}]),
        ("", []),
        ("1", ["not_json"]),
    ],
)
def test_json_before_invalid_text_is_read(text: str, expected: list[object]) -> None:
    assert read(".json", text.encode()) == expected


def test_a_long_json_value_is_a_problem() -> None:
    rows = json.dumps([{"text": "x" * 50}, {"text": "y" * 900_000}])
    assert read(".json", rows.encode(), max_bytes=1_000) == [{"text": "x" * 50}, "too_large"]


TABLE = [{"text": 'one, "two"', "n": "1"}, {"text": "three\nfour", "n": ""}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_of_any_dialect_is_read(delimiter: str, encoding: str, newline: str) -> None:
    lines = ["text,n", '"one, ""two""",1', '"three\nfour",', ""]
    text = newline.join(
        line.replace(",", delimiter) if "one" not in line else line[:-2] + delimiter + "1" for line in lines
    )
    assert read(".csv", text.encode(encoding)) == TABLE
    declared = f"sep={delimiter}{newline}{text}"
    assert read(".csv", declared.encode(encoding)) == TABLE


def test_csv_without_a_header_has_numbered_columns() -> None:
    data = b'"Who, when?",1801,1802,A\n"Where?",here,there,B\n'
    rows = [
        {"1": "Who, when?", "2": "1801", "3": "1802", "4": "A"},
        {"1": "Where?", "2": "here", "3": "there", "4": "B"},
    ]
    assert read(".csv", data, "1", "2") == rows
    assert read(".csv", b"0,1\na,b\n", "1") == [{"0": "a", "1": "b"}], "numbers may be names"


def test_rows_of_csv_that_are_broken_are_problems_and_reading_continues() -> None:
    data = b'text,n\na,1\nb\nc,1,2\n"d"x,1\n\n\xff,1\nlast,9\n'
    rows = read(".csv", data)
    assert [row if isinstance(row, str) else row["text"] for row in rows] == [
        *("a", "not_csv", "not_csv", "not_csv", "\udcff", "last"),
    ]
    assert read(".csv", b'text\n"open\nand\nopen') == ["not_csv"]
    assert read(".csv", b"text\n" + b"x" * 2_000 + b"\nb\n", max_bytes=1_000) == ["too_large", {"text": "b"}]
    assert read(".csv", b"") == []
    assert read(".csv", b"text\n") == []


def test_quotation_marks_of_tsv_are_characters_unless_they_enclose_a_field() -> None:
    data = b'text\tn\n6" pipe\t1\n"quoted ""twice"""\t2\n"open\t3\n'
    assert [row["text"] for row in read(".tsv", data)] == ['6" pipe', 'quoted "twice"', '"open']


@pytest.mark.parametrize("text", ["x" * 1_000, None])
def test_columns_that_decode_to_far_more_than_the_file_are_a_bomb(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 100_000)
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([text] * 40_000, pa.string())}), sink)

    def read_table() -> list[Any]:
        return read(".parquet", sink.getvalue())

    with pytest.raises(streams.BombError, match="times the file"):
        read_table()
