"""Read the rows of a file of any kind: JSON lines, JSON, CSV, TSV, Parquet and Arrow.

In: a stream of decompressed bytes, the kind of its file, and the wanted columns. Out: each row's number and fields, or its problem,
behind which reading continues. Of Parquet and Arrow only the wanted columns are read. Memory: one row of at most `max_bytes`, or
one batch; a Parquet or Arrow file that can't seek (it is compressed as a whole) of at most `max_bytes`. Covers (hostile input):
columns that decode to more than `streams.MAX_RATIO` times the file (`BombError`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TypeAlias

import pyarrow as pa

from pipeline.storage import streams
from pipeline.storage.arrow import read_arrow_rows
from pipeline.storage.delimited import read_delimited
from pipeline.storage.json_rows import REST, read_json, read_json_lines
from pipeline.storage.streams import BROKEN as BROKEN_STREAM
from pipeline.storage.streams import BombError
from pipeline.storage.tables import read_parquet_stream
from pipeline.storage.values import BadValue, RowProblem, Rows, make_too_large

JSON_LINES, JSON, CSV = (".jsonl", ".ndjson"), ".json", (".csv", ".tsv")
PARQUET, ARROW = ".parquet", (".arrow", ".feather", ".ipc")
COLUMNS = (PARQUET, *ARROW)
ROWS = (*JSON_LINES, JSON, *CSV, *COLUMNS)
MAX_BYTES = 1 << 30  # of a row, without a setting
ROW_BYTES = 16  # that a row counts without its text, against files of endlessly many empty rows
BROKEN = (*BROKEN_STREAM, BombError, pa.ArrowException)
BROKEN_COLUMNS = (ValueError, KeyError, IndexError, OverflowError, TypeError, AttributeError, MemoryError)

ReadColumns: TypeAlias = Callable[[IO[bytes], Sequence[str]], Iterator[dict[str, object]]]


def read_rows(kind: str, stream: IO[bytes], columns: Sequence[str], max_bytes: int = MAX_BYTES) -> Rows:
    """Yield number and fields, or the problem, of each row. Raises one of `BROKEN` for a broken stream, after the rows before it.

    The first of `columns` is the one that matters: rows of Parquet and Arrow without it name the columns that there are.
    """
    try:
        if kind in COLUMNS:
            read = read_parquet_stream if kind == PARQUET else read_arrow_rows
            yield from _read_columns(read, stream, columns, max_bytes)
        elif kind in CSV:
            yield from read_delimited(stream, kind, columns, max_bytes)
        elif kind == JSON:
            yield from read_json(stream, max_bytes)
        else:
            yield from read_json_lines(stream, max_bytes)
    except UnicodeError as error:  # of the whole file: UTF-16 without a mark
        yield 1, RowProblem("not_utf8", f"{error}; {REST}", "is not readable: not UTF-8")


def _read_columns(read: ReadColumns, stream: IO[bytes], columns: Sequence[str], max_bytes: int) -> Rows:
    if not stream.seekable():
        data = stream.read(max_bytes + 1)
        if len(data) > max_bytes:
            yield 1, make_too_large(max_bytes)
            return
        stream = io.BytesIO(data)
    limit = streams.RATIO_SLACK_BYTES + streams.MAX_RATIO * stream.seek(0, io.SEEK_END)
    stream.seek(0)
    n_bytes = 0
    with report_broken():
        for number, row in enumerate(read(stream, columns), 1):
            text = row.get(columns[0]) if columns else None
            n_bytes += ROW_BYTES + (len(text) if isinstance(text, str | bytes) else 0)
            if n_bytes > limit:
                raise BombError(f"{number} rows are more than {streams.MAX_RATIO} times the file")
            bad = next((value for value in row.values() if isinstance(value, BadValue)), None)
            yield number, RowProblem("unreadable_value", bad.detail, "has a value that can't be read") if bad else row


@contextmanager
def report_broken() -> Generator[None]:
    """Convert what pyarrow raises about broken files besides its own errors to those."""
    try:
        yield
    except BROKEN:
        raise
    except BROKEN_COLUMNS as error:
        raise pa.ArrowInvalid(f"{type(error).__name__}: {error}") from error
