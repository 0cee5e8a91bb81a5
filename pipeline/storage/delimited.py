"""Read rows of CSV and TSV.

In: a stream of bytes in any encoding that `lines` reads. Out: rows by the names of the header, and problems with their reason,
behind which reading continues. The delimiter of `.csv` is that of `, ; | tab` which the first line has most of, or the one that
Excel declares (`sep=;`). In a file without a header the wanted columns are named by their numbers, from `"1"` on. Fields of `.tsv`
may be quoted, but a quotation mark elsewhere is a character, and a line break always ends the row. Memory: one row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO, Any

from pipeline.storage.lines import split_lines
from pipeline.storage.values import RowProblem, Rows, make_too_large

TSV = ".tsv"
DELIMITERS = ",;\t|"
QUOTED = re.compile(r'"(?:[^"]|"")*"')
DECLARED = re.compile(r"sep=(.)\s*")

Record = list[str] | RowProblem


def read_delimited(stream: IO[bytes], kind: str, columns: Sequence[str], max_bytes: int) -> Rows:
    """Yield the rows of a `.csv` or `.tsv` file, numbered from 1; bytes that are not UTF-8 become lone surrogates."""
    records = _read_records(stream, kind, max_bytes)
    first = next((record for record in records if isinstance(record, list)), [])
    header = [name.strip() for name in first]
    if columns and columns[0].isdecimal() and columns[0] not in header:
        header = [str(number) for number in range(1, len(first) + 1)]
        records = chain([first], records)
    for number, record in enumerate(records, 1):
        if isinstance(record, RowProblem):
            yield number, record
        elif len(record) != len(header):
            detail = f"{len(record)} fields, but the header has {len(header)}"
            yield number, RowProblem("not_csv", detail, "has another number of fields than the header")
        else:
            yield number, dict(zip(header, record, strict=True))


def _read_records(stream: IO[bytes], kind: str, max_bytes: int) -> Iterator[Record]:
    problems: list[RowProblem] = []
    lines = _decode_lines(stream, max_bytes, problems)
    first = next((line for line in lines if line.strip()), "")
    declared = DECLARED.fullmatch(first)
    delimiter = declared[1] if declared else _find_delimiter(first, kind)
    quoting: Any = csv.QUOTE_NONE if kind == TSV else csv.QUOTE_MINIMAL
    csv.field_size_limit(max_bytes)
    rest = lines if declared else chain([first], lines)
    reader = csv.reader(rest, delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        try:
            record: Record | None = next(reader, None)
        except csv.Error as error:
            record = RowProblem("not_csv", f"line {reader.line_num}: {error}", "is not CSV")
        yield from problems
        problems.clear()
        if record is None:
            return
        if record:
            yield [_unquote(field) for field in record] if kind == TSV and isinstance(record, list) else record


def _decode_lines(stream: IO[bytes], max_bytes: int, problems: list[RowProblem]) -> Iterator[str]:
    """Yield the lines with their line breaks; one that is too long is blank and a problem."""
    for _, line in split_lines(stream, max_bytes, has_blank=True):
        if line is None:
            problems.append(make_too_large(max_bytes))
        yield (line or b"").decode("utf-8", "surrogateescape") + "\n"


def _find_delimiter(line: str, kind: str) -> str:
    if kind == TSV:
        return "\t"
    plain = QUOTED.sub("", line)
    return max(DELIMITERS, key=plain.count)


def _unquote(field: str) -> str:
    is_quoted = len(field) >= 2 and field.startswith('"') and field.endswith('"')
    inner = field[1:-1]
    return inner.replace('""', '"') if is_quoted and '"' not in inner.replace('""', "") else field
