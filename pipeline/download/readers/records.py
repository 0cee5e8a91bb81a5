"""Read the texts of one open stream: a whole file, the pieces between separators, or the rows of a file that has rows.

In: a stream of decompressed bytes, its format, the source's settings. Out: pieces with a text or with the reason why there is
none. Texts have no byte order marks and Unix line breaks. Memory: one piece of at most `max_member_bytes`; a longer one is skipped
in constant memory, and reading continues.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from pipeline.download.params import TextSettings
from pipeline.download.readers.document import RowFormat
from pipeline.storage.lines import decode_chunks, decode_text, normalize_newlines, strip_line_marks
from pipeline.storage.rows import CSV, JSON, ROWS, read_rows
from pipeline.storage.values import RowProblem
from pipeline.text.license_names import normalize_license

PLAIN = (".txt", ".md", ".rst")
LOOSE = (JSON, *CSV)  # kinds that are often something else than texts in rows


class Piece(NamedTuple):
    """A text, or the reason why there is none; `where` is its location inside the file."""

    where: Mapping[str, object]
    text: str = ""
    reason: str = ""
    detail: str = ""
    title: str = ""
    url: str = ""
    license: str = ""


@dataclass
class Columns:
    """Counts of rows read and of rows with the text column, to tell a wrong setting from a bad row. Rows of `LOOSE` kinds do not
    count beside other files (`has_others`): a folder of texts may hold a table, too."""

    has_others: bool = False
    n_rows: int = 0
    n_found: int = 0
    names: list[str] = field(default_factory=list[str])  # of the first row without it

    def make_row_format(self) -> RowFormat:
        return RowFormat(self.n_rows, self.n_found, tuple(self.names))


def read_pieces(kind: str, stream: IO[bytes], params: TextSettings, columns: Columns) -> Iterator[Piece]:
    """Yield the pieces of a stream. `kind` is one of `PLAIN` or `ROWS`. Raise whatever a broken stream raises."""
    if kind in ROWS:
        yield from read_row_pieces(kind, stream, params, columns)
    elif params.split_on:
        yield from split_text(stream, params.split_on, params.max_member_bytes)
    else:
        yield read_whole_text(stream, params.max_member_bytes)


def read_whole_text(stream: IO[bytes], max_bytes: int) -> Piece:
    """Read the stream as one text."""
    data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        return Piece({}, reason="too_large", detail=f"more than max_member_bytes = {max_bytes}")
    try:
        return trim_piece(Piece({}, decode_text(data)))
    except UnicodeError as error:
        return Piece({}, reason="not_utf8", detail=f"{error}; convert it to UTF-8")


def trim_piece(piece: Piece) -> Piece:
    """Remove leading and trailing blank lines; an empty text becomes a reject."""
    text = piece.text.strip("\n")
    return piece._replace(text=text) if text.strip() else piece._replace(reason="empty_text", text="")


def split_text(stream: IO[bytes], separator: str, max_bytes: int) -> Iterator[Piece]:
    """Yield the pieces between separators, numbered from 1; those of white space only are skipped."""
    number = 0
    try:
        for part in split_chunks(decode_chunks(stream), separator, max_bytes):
            number += 1
            if part is None:
                yield Piece({"part": number}, reason="too_large", detail=f"more than max_member_bytes = {max_bytes}")
            elif (text := strip_line_marks(part)).strip():
                yield Piece({"part": number}, text.strip("\n"))
    except UnicodeError as error:
        yield Piece({"part": number + 1}, reason="not_utf8", detail=f"{error}; the rest of the file was not read")


def split_chunks(chunks: Iterable[str], separator: str, max_chars: int) -> Iterator[str | None]:
    """Stream `"".join(chunks).split(separator)`, with None for a part of more than `max_chars` characters."""
    held: list[str] = []
    tail = ""  # the last characters, in which a separator may begin
    n_held = 0
    is_too_large = False
    for chunk in chunks:
        *parts, rest = (tail + chunk).split(separator)
        for part in parts:
            whole = "".join((*held, part))
            yield None if is_too_large or len(whole) > max_chars else whole
            held, n_held, is_too_large = [], 0, False
        keep = _measure_overlap(rest, separator)
        body, tail = rest[: len(rest) - keep], rest[len(rest) - keep :]
        n_held += len(body)
        is_too_large |= n_held > max_chars
        held = [] if is_too_large else [*held, body] if body else held
    whole = "".join((*held, tail))
    yield None if is_too_large or len(whole) > max_chars else whole


def _measure_overlap(text: str, separator: str) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of the separator."""
    longest = min(len(text), len(separator) - 1)
    return next((n for n in range(longest, 0, -1) if separator.startswith(text[-n:])), 0)


def read_row_pieces(kind: str, stream: IO[bytes], params: TextSettings, columns: Columns) -> Iterator[Piece]:
    """Yield one piece per row; an invalid one becomes a reject and reading continues."""
    wanted = (params.text_column, params.id_column, params.title_column, params.url_column, params.license_column)
    is_counted = not (kind in LOOSE and columns.has_others)
    for number, row in read_rows(kind, stream, [name for name in wanted if name], params.max_member_bytes):
        where = {"row": number}
        if isinstance(row, RowProblem):
            yield Piece(where, reason=row.reason, detail=row.detail)
        else:
            yield make_row_piece(row, where, params, columns if is_counted else Columns())


def make_row_piece(
    row: Mapping[str, object], where: Mapping[str, object], params: TextSettings, columns: Columns
) -> Piece:
    """Return the piece of one row from the columns that the settings name."""
    columns.n_rows += 1
    try:
        text = _decode(get_field(row, params.text_column))
        names = (params.id_column, params.title_column, params.url_column, params.license_column)
        values = [_decode(get_field(row, name)) for name in names]
        identity, title, url = ("" if value is None else str(value) for value in values[:3])
        license = read_license(values[3])
        if not isinstance(text, str):
            columns.names = columns.names or sorted(map(str, row))
            return Piece(where, reason="no_text_column", detail=f"{params.text_column!r} is {type(text).__name__}")
        columns.n_found += 1
        n_bytes = len(text.encode())
        "\0".join((identity, title, url, license)).encode()
    except UnicodeError as error:
        return Piece(where, reason="not_utf8", detail=str(error))
    if n_bytes > params.max_member_bytes:
        return Piece(where, reason="too_large", detail=f"more than max_member_bytes = {params.max_member_bytes}")
    where = {**where, "id": identity} if identity else where
    return trim_piece(Piece(where, normalize_newlines(text), title=title, url=url, license=license))


def read_license(value: object) -> str:
    """Return the SPDX expression of a license column's value; `unknown` for an empty list; empty if the row has none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return normalize_license(text) or "unknown"


def get_field(row: Mapping[str, object], name: str) -> object:
    """Return the value of a column; `meta.url` is the field url inside meta, unless a column has exactly that name."""
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _decode(value: object) -> object:
    """Decode bytes as UTF-8; return other values unchanged. Raise `UnicodeDecodeError` for invalid bytes."""
    return value.decode() if isinstance(value, bytes) else value
