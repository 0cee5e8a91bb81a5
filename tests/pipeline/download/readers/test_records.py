"""Test reading the texts of one stream."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.params import Text
from pipeline.download.readers.records import (
    Columns,
    Piece,
    read_row_pieces,
    read_whole_text,
    split_chunks,
    split_text,
)

PARAMS = Text(kind="text", name="t", path="x", max_member_bytes=1_000)


def read_rows(lines: bytes, **settings: str) -> list[Piece]:
    return list(read_row_pieces(".jsonl", io.BytesIO(lines), PARAMS.model_copy(update=settings), Columns()))


@given(
    st.lists(st.text(alphabet="ab|\n", max_size=6), max_size=12),
    st.text(alphabet="ab|\n", min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_splitting_chunks_equals_splitting_the_whole_text(chunks: list[str], separator: str, max_chars: int) -> None:
    parts = "".join(chunks).split(separator)
    assert list(split_chunks(chunks, separator, 1_000)) == parts
    assert list(split_chunks(chunks, separator, max_chars)) == [
        part if len(part) <= max_chars else None for part in parts
    ]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff\0")))
def test_pieces_add_up_to_the_text(text: str) -> None:
    pieces = list(split_text(io.BytesIO(text.encode()), "\n\n", 10_000))
    expected = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    assert [piece.text for piece in pieces] == expected


def test_parts_are_numbered_by_position() -> None:
    pieces = list(split_text(io.BytesIO("\ufeffone<|end|>\r\n<|end|>three\r\nlines".encode()), "<|end|>", 100))
    assert [(piece.where["part"], piece.text) for piece in pieces] == [(1, "one"), (3, "three\nlines")]


def test_pieces_before_an_invalid_byte_are_kept() -> None:
    pieces = list(split_text(io.BytesIO((b"good" * 24 + b"|") * 12_000 + b"\xff"), "|", 100))
    assert [piece.reason for piece in pieces[-2:]] == ["", "not_utf8"]


@pytest.mark.parametrize(
    ("data", "text", "reason"),
    [
        (b"\xef\xbb\xbfone\r\ntwo\rthree\n", "one\ntwo\nthree", ""),
        (b" \n\t\n", "", "empty_text"),
        (b"", "", "empty_text"),
        (b"caf\xe9", "", "not_utf8"),
        ("utf-16".encode("utf-16"), "utf-16", ""),
        ("utf-16".encode("utf-16-le"), "", "not_utf8"),
        (b"one\n\xef\xbb\xbftwo", "one\ntwo", ""),
        (b"x" * 1_001, "", "too_large"),
        (b"x" * 1_000, "x" * 1_000, ""),
    ],
)
def test_a_whole_text_is_read(data: bytes, text: str, reason: str) -> None:
    piece = read_whole_text(io.BytesIO(data), 1_000)
    assert (piece.text, piece.reason) == (text, reason)


def test_an_invalid_line_becomes_a_reject_and_reading_continues() -> None:
    lines = [
        b'{"text": "one"}',
        b"",
        b'{"text": ',
        b'{"text": "\xff"}',
        b'["text"]',
        b'{"body": "x"}',
        b'{"text": 3}',
        b'{"text": " "}',
        b'{"text": "\\ud800"}',
        b'{"text": "' + b"x" * 2_000 + b'"}',
        b"[" * 900,
        b'{"text": "last"}',
    ]
    pieces = read_rows(b"\n".join(lines))
    assert [(piece.where["row"], piece.text or piece.reason) for piece in pieces] == [
        (1, "one"),
        (3, "not_json"),
        (4, "not_utf8"),
        (5, "not_json"),
        (6, "no_text_column"),
        (7, "no_text_column"),
        (8, "empty_text"),
        (9, "not_utf8"),
        (10, "too_large"),
        (11, "not_json"),
        (12, "last"),
    ]


def test_columns_are_selected_by_the_settings() -> None:
    line = json.dumps({"body": "words", "n": 7, "link": "https://x", "by": "CC0-1.0", "name": None}).encode()
    settings = {
        "text_column": "body",
        "id_column": "n",
        "url_column": "link",
        "license_column": "by",
        "title_column": "name",
    }
    [piece] = read_rows(line, **settings)
    assert piece == Piece({"row": 1, "id": "7"}, "words", url="https://x", license="CC0-1.0")


def test_parquet_rows_are_read() -> None:
    table = pa.table({"text": ["one", None, " ", "four"], "unused": [1, 2, 3, 4]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    columns = Columns()
    pieces = list(read_row_pieces(".parquet", io.BytesIO(sink.getvalue()), PARAMS, columns))
    assert [(piece.text, piece.reason) for piece in pieces] == [
        ("one", ""),
        ("", "no_text_column"),
        ("", "empty_text"),
        ("four", ""),
    ]
    assert (columns.n_rows, columns.n_found) == (4, 3)


def test_parquet_text_that_is_not_utf8_becomes_a_reject() -> None:
    bad = pa.array([b"good", b"\xff"]).view(pa.string())
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": bad}), sink)
    pieces = list(read_row_pieces(".parquet", io.BytesIO(sink.getvalue()), PARAMS, Columns()))
    assert [(piece.text, piece.reason) for piece in pieces] == [("good", ""), ("", "not_utf8")]


def test_licenses_of_any_type_are_read() -> None:
    values = [
        ["MIT"],
        ["MIT", "Apache-2.0"],
        {"name": "MIT"},
        "MIT License",
        "https://spdx.org/licenses/MIT.html",
        [],
        "None",
        None,
    ]
    lines = b"".join(json.dumps({"text": "a", "by": value}).encode() + b"\n" for value in values)
    expected = ["MIT", "MIT AND Apache-2.0", "MIT", "MIT", "MIT", "unknown", "unknown", ""]
    assert [piece.license for piece in read_rows(lines, license_column="by")] == expected
