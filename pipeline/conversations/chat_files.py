"""Open files of conversations, of any kind and compression, and read their rows.

In: a path below an input folder. Out: rows, or the problem of a single row, behind which reading continues. A file that breaks off,
or that can't be read on behind an invalid row, is an error: nobody wants to train on half of it. Memory: one row of
`MAX_ROW_BYTES`, for Parquet one batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.conversations.chatml import CHATML_MARK, split_chatml
from pipeline.frame.errors import UserError
from pipeline.storage.json_rows import REST
from pipeline.storage.lines import split_lines
from pipeline.storage.pointers import find_pointer
from pipeline.storage.rows import BROKEN, JSON, JSON_LINES, ROWS, read_rows
from pipeline.storage.streams import CountedFile, decompress, split_name
from pipeline.storage.values import RowProblem

TEXT = ".txt"
KINDS = (*ROWS, TEXT)
MAX_ROW_BYTES = (
    32_000_000  # a conversation of 1,152 tokens has 6,000; with ten times the turns and all metadata still far less
)
LISTS = ("names.txt", "systems.txt")
PAPERS = re.compile(r"(licen[cs]e|notice|readme|source)(\.txt)?|.*\.md", re.IGNORECASE)  # beside data sets
Rows = Iterator[tuple[int, Mapping[str, Any] | RowProblem]]


def list_chat_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may contain conversations: all but hidden ones, names in `_`, `PAPERS` and `LISTS`."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        and not PAPERS.fullmatch(path.name)
        and str(path.relative_to(folder)) not in LISTS
    ]


def read_chat_rows(path: Path, columns: Sequence[str]) -> Rows:
    """Yield number and fields, or the problem, of each row of a file; `columns` are those that are read of Parquet and Arrow.

    Raises: `UserError` for a file of another kind, one that is not there in full, or one that can't be read to its end.
    """
    kind, compression = split_name(path.name)
    if kind not in KINDS:
        found = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise UserError(
            f"{path}: not a file of conversations",
            found,
            f"convert it to one of {', '.join(KINDS)}, or move it elsewhere",
        )
    n_read = 0
    try:
        with path.open("rb") as file:
            if pointer := find_pointer(file, path.stat().st_size):
                raise UserError(f"{path}: not the file itself", pointer, "fetch it, and run again")
            counted = CountedFile(file)
            stream = decompress(counted, compression)
            rows = (
                _read_text(split_lines(stream, has_blank=True))
                if kind == TEXT
                else read_rows(kind, stream, columns, MAX_ROW_BYTES)
            )
            for number, row in rows:
                yield (
                    number,
                    _check_problem(row, path, number) if isinstance(row, RowProblem) else _fill_cells(row, kind),
                )
                n_read = number
            if counted.trailing:
                raise UserError(f"{path}: can't be read to its end", counted.trailing, "compress it again")
    except BROKEN as error:
        found = f"{error} (after row {n_read})" if n_read else str(error)
        raise UserError(f"{path}: can't be read to its end", found, "write or copy it again, or remove it") from error


def _check_problem(problem: RowProblem, path: Path, number: int) -> RowProblem:
    """Return a problem of one row. Raises: `UserError` for one behind which nothing can be read."""
    if problem.detail.endswith(REST):
        raise UserError(
            f"{path}:{number}: {problem.verdict}", problem.detail, "correct it, or write one object per line (.jsonl)"
        )
    if problem.reason == "too_large":
        return problem._replace(detail=f"more than {MAX_ROW_BYTES:,} bytes")
    return problem


def _fill_cells(row: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return the fields of a row; in tables an absent one is an empty cell."""
    if kind in (*JSON_LINES, JSON, TEXT):
        return row
    return {name: cell for name, cell in row.items() if cell not in (None, "")}


def _read_text(lines: Iterable[tuple[int, bytes | None]]) -> Rows:
    """Yield the conversations of a text file of ChatML as rows with the field `text`."""
    try:
        decoded = ((number, (line or b"").decode()) for number, line in lines)
        for number, text in split_chatml(decoded):
            is_chat = text.startswith(CHATML_MARK)
            yield (
                number,
                {"text": text}
                if is_chat
                else RowProblem("chatml", f"text outside of turns: {text[:60]!r}", "is no ChatML"),
            )
    except UnicodeError as error:
        yield 1, RowProblem("not_utf8", f"{error}; {REST}", "is not readable: not UTF-8")
