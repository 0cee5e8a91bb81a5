"""Define a section: a part of a document with its exact place, the unit that is searched, shown and cited.

A file of sections is one record batch in an Arrow IPC file, sorted so that the *units* come first: what a search in words ranks
(main sections of symbols, sections of guides and texts). The facets of symbols follow (`numpy.sum: parameters`); they are found
by their title, or chosen after a unit was found. So row i of the BM25 index and of the vectors is row i of the sections.

`text` is the document's text from `start` to `end`, character by character, and `sha256` its hash. Memory: none of its own; what is
accessed is mapped. Time: 20 µs a section.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.retrieval.mapped_arrays import describe_foreign, map_record_batch, write_record_batch

FACET = "facet"
KINDS = ("symbol", FACET, "guide", "text")
SECTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("doc_id", pa.string()),
        ("title", pa.string()),
        ("heading", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("text", pa.large_string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("page", pa.int32()),
        ("paragraph", pa.int32()),
        ("line_start", pa.int32()),
        ("line_end", pa.int32()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("sha256", pa.string()),
        ("signature", pa.string()),
        ("n_mentions", pa.int32()),
    ]
)


class Section(NamedTuple):
    """Hold one section.

    `heading` is the path of headings inside the document. `kind`: symbol (a Python name), facet (a part of a symbol's
    documentation), guide (prose below headings) or text. `start` and `end` are character offsets in the document's text;
    `page` (0: the document has none), `paragraph` and lines count from 1. `n_mentions`: in how many other documents the
    title occurs.
    """

    id: str
    doc_id: str
    title: str
    heading: tuple[str, ...]
    kind: str
    text: str
    start: int
    end: int
    page: int
    paragraph: int
    line_start: int
    line_end: int
    url: str
    source: str
    license: str
    sha256: str
    signature: str
    n_mentions: int

    @property
    def name(self) -> str:
        """The title without a facet: `numpy.sum` of `numpy.sum: parameters`."""
        return self.title.partition(": ")[0] if self.kind == FACET else self.title

    @property
    def facet(self) -> str:
        """The facet of the title: `parameters`; empty for the main section."""
        return self.title.partition(": ")[2] if self.kind == FACET else ""


class Sections:
    """A mapped file of sections: a sequence of `Section` by row."""

    def __init__(self, batch: pa.RecordBatch, n_units: int) -> None:
        self.batch, self.n_units = batch, n_units

    @classmethod
    def open(cls, path: Path) -> Sections:
        """Map a file. Raises: ValueError for a file that is missing, truncated, foreign or not sorted."""
        batch = map_record_batch(path)
        if batch.schema.names != SECTIONS.names or batch.schema.types != SECTIONS.types:
            raise ValueError(describe_foreign(path, f"columns {', '.join(batch.schema.names)[:200]}"))
        is_facet = pc.equal(batch.column("kind"), FACET)
        n_units = batch.num_rows - (pc.sum(is_facet).as_py() or 0)
        if pc.any(is_facet[:n_units]).as_py():
            raise ValueError(describe_foreign(path, "facets before units"))
        return cls(batch, n_units)

    def __len__(self) -> int:
        return self.batch.num_rows

    def __getitem__(self, row: int) -> Section:
        values: list[Any] = [column[row].as_py() for column in self.batch.columns]
        values[3] = tuple(values[3])
        return Section(*values)

    def column(self, name: str) -> list[Any]:
        """Return a column as a list."""
        return self.batch.column(name).to_pylist()

    def value(self, name: str, row: int) -> Any:
        """Return one cell."""
        return self.batch.column(name)[row].as_py()

    def values(self, name: str, rows: NDArray[np.int64]) -> list[Any]:
        """Return some cells of a column, which is much faster than one by one."""
        return self.batch.column(name).take(pa.array(rows)).to_pylist()


def order_sections(sections: Sequence[Section]) -> list[Section]:
    """Return the units, then the facets, each in their order."""
    return sorted(sections, key=lambda section: section.kind == FACET)


def make_batch(sections: Sequence[Section]) -> pa.RecordBatch:
    """Return sections, which must be ordered, as a record batch of `SECTIONS`."""
    columns = list(zip(*sections, strict=True)) or [[] for _ in SECTIONS]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SECTIONS, strict=True)]
    return pa.record_batch(arrays, schema=SECTIONS)


def write_sections(path: Path, sections: Sequence[Section]) -> None:
    """Write sections, units first, as one file; the same sections give the same bytes."""
    write_record_batch(path, make_batch(order_sections(sections)))


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8; a lone surrogate counts as itself."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
