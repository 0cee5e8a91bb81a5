"""What every reader yields: documents, rejects and counts, in batches; and the parts that can be read apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Document(NamedTuple):
    """One text with where it comes from; `locator` is canonical JSON, `license` SPDX or `unknown`."""

    source: str
    locator: str
    text: str
    title: str
    url: str
    license: str


class Reject(NamedTuple):
    """What could not become a document: where, a reason that is counted, and the detail for a person."""

    source: str
    locator: str
    reason: str
    detail: str


class RowFormat(NamedTuple):
    """Rows read, rows that have the text column, and the columns of the first one without: a wrong setting or a bad row?"""

    n_rows: int = 0
    n_found: int = 0
    names: tuple[str, ...] = ()

    def plus(self, other: RowFormat) -> RowFormat:
        return RowFormat(self.n_rows + other.n_rows, self.n_found + other.n_found, self.names or other.names)


class DocumentBatch(NamedTuple):
    """A few documents. `n_bytes` of the source's `Reading.total_bytes` have been read for them; `origins` say what was
    read (a package and its version, a file and its hash), for the record."""

    docs: list[Document]
    rejects: list[Reject]
    counts: Mapping[str, int]
    n_bytes: int
    origins: Sequence[Mapping[str, object]] = ()
    rows: RowFormat = RowFormat()


class Opened(NamedTuple):
    """`key` names every byte of a part and the settings that it is read with; empty where the bytes can't be named."""

    key: str
    batches: Iterator[DocumentBatch]


class SourcePart(NamedTuple):
    """A share of a source that can be read alone; in any process (`open` is picklable), if it has no workers of its own."""

    n_bytes: int
    open: Callable[[], Opened]


class Reading(NamedTuple):
    """A source that was found and opened; `total_bytes` 0 where the size is not known before reading.

    `parts` are the same documents as `batches`, in the same order, where a source can be read in shares; with `has_workers`
    each part has workers of its own, and they are read one after the other. `check` raises `UserError` for what shows only
    after all of them: rows that never have the text column."""

    total_bytes: int
    batches: Iterator[DocumentBatch]
    parts: Sequence[SourcePart] = ()
    check: Callable[[RowFormat], None] | None = None
    has_workers: bool = False


def canonical_json(values: Mapping[str, object]) -> str:
    """The same values give the same bytes."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def read_parts(
    parts: Sequence[SourcePart], check: Callable[[RowFormat], None] | None = None
) -> Iterator[DocumentBatch]:
    """Yield the batches of all parts, then check the rows that they had."""
    rows = RowFormat()
    for part in parts:
        for batch in part.open().batches:
            rows = rows.plus(batch.rows)
            yield batch
    if check:
        check(rows)
