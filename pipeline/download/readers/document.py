"""Define what every reader yields: documents, rejects and counts, in batches; and parts that can be read separately."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Document(NamedTuple):
    """One text with its provenance; `locator` is canonical JSON, `license` an SPDX expression or `unknown`. A document that is for
    search only repeats another one under another title: the index has it, training text does not."""

    source: str
    locator: str
    text: str
    title: str
    url: str
    license: str
    is_search_only: bool = False


class Reject(NamedTuple):
    """An input that could not become a document: its location, a reason that is counted, and a detail for the user."""

    source: str
    locator: str
    reason: str
    detail: str


class RowFormat(NamedTuple):
    """Rows read, rows with the text column, and the columns of the first row without it: tells a wrong setting from a bad row."""

    n_rows: int = 0
    n_found: int = 0
    names: tuple[str, ...] = ()

    def merge(self, other: RowFormat) -> RowFormat:
        """Return the sum of both."""
        return RowFormat(self.n_rows + other.n_rows, self.n_found + other.n_found, self.names or other.names)


class DocumentBatch(NamedTuple):
    """A few documents. `n_bytes` of the source's `Reading.total_bytes` have been read for them; `origins` record what was
    read (a package and its version, a file and its hash)."""

    docs: list[Document]
    rejects: list[Reject]
    counts: Mapping[str, int]
    n_bytes: int
    origins: Sequence[Mapping[str, object]] = ()
    rows: RowFormat = RowFormat()


class Opened(NamedTuple):
    """An opened part. `key` identifies its bytes and its settings; empty if the bytes cannot be identified."""

    key: str
    batches: Iterator[DocumentBatch]


class SourcePart(NamedTuple):
    """A part of a source that can be read separately; in any process (`open` is picklable) if it has no workers of its own."""

    n_bytes: int
    open: Callable[[], Opened]


class Reading(NamedTuple):
    """An opened source; `total_bytes` is 0 where the size is unknown before reading.

    `parts` yield the same documents as `batches`, in the same order, where a source can be read in parts; with `has_workers`
    each part has workers of its own, and they are read one after the other. `check` raises `UserError` for errors that show only
    after all of them have been read: no row has the text column."""

    total_bytes: int
    batches: Iterator[DocumentBatch]
    parts: Sequence[SourcePart] = ()
    check: Callable[[RowFormat], None] | None = None
    has_workers: bool = False


def dump_canonical_json(values: Mapping[str, object]) -> str:
    """Serialize values so that the same values give the same bytes."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def read_parts(
    parts: Sequence[SourcePart], check: Callable[[RowFormat], None] | None = None
) -> Iterator[DocumentBatch]:
    """Yield the batches of all parts, then check their rows."""
    rows = RowFormat()
    for part in parts:
        for batch in part.open().batches:
            rows = rows.merge(batch.rows)
            yield batch
    if check:
        check(rows)
