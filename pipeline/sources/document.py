"""What every reader yields: documents, rejects and counts, in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Document(NamedTuple):
    """One text with where it comes from; `locator` is canonical JSON, `licence` SPDX or `unknown`."""

    source: str
    locator: str
    text: str
    title: str
    url: str
    licence: str


class Reject(NamedTuple):
    """What could not become a document: where, a reason that is counted, and the detail for a person."""

    source: str
    locator: str
    reason: str
    detail: str


class Batch(NamedTuple):
    """A few documents. `n_bytes` of the source's `Reading.total_bytes` have been read for them."""

    docs: list[Document]
    rejects: list[Reject]
    counts: Mapping[str, int]
    n_bytes: int


class Reading(NamedTuple):
    """A source that was found and opened; `total_bytes` 0 where the size is not known before reading."""

    total_bytes: int
    batches: Iterator[Batch]


def canonical_json(values: Mapping[str, object]) -> str:
    """The same values give the same bytes."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
