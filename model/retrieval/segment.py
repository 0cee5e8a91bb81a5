"""A segment: a folder of sections that can be searched, written once and never changed.

In: sections in the order of their documents, names that are not titles, and ancestors of classes. Out: `sections.arrow`,
`bm25.arrow` (one entry per unit: title, main text, texts of its facets), `names.arrow` (titles and other names of units),
`links.arrow` (facets and ancestors of each unit) and `segment.json`. The same sections give the same bytes. Stage index writes
one; a collection is a list of them. Memory: the sections a few times over to write; to search, the pages that are accessed. Time:
10 CPU-s for 60,000 documents of 40 MB to write; milliseconds to open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.retrieval.bm25 import Bm25, write_bm25
from model.retrieval.mapped_arrays import Array, describe_foreign, map_arrays, write_arrays, write_record_batch
from model.retrieval.naming.name_table import NameTable, write_names
from model.retrieval.sections import Section, Sections
from model.retrieval.segment_parts import SegmentPart, UnitTexts, gather_unit_texts, join_parts, make_part

__all__ = ["Segment", "UnitTexts", "gather_unit_texts", "is_segment", "write_parts", "write_segment"]

ABOUT = "segment.json"
FORMAT = 1
FIELD_WEIGHTS = (
    8,
    4,
    1,
)  # of words in the title, in the unit's own text, in its facets; (4, 2, 1): MRR 0.414 instead of 0.435
LINKS = ("facet_starts", "base_starts", "base_rows")


def write_segment(
    folder: Path,
    sections: Iterable[Section],
    aliases: Mapping[str, str] | None = None,
    bases: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a segment into an existing folder. `aliases`: further names → titles; `bases`: titles → names of their ancestors."""
    write_parts(folder, [make_part(list(sections))], {}, aliases or {}, bases or {})


def write_parts(
    folder: Path,
    parts: Sequence[SegmentPart],
    mentions: Mapping[str, int],
    aliases: Mapping[str, str],
    bases: Mapping[str, Sequence[str]],
) -> None:
    """Write a segment from its parts. `mentions`: titles → numbers of other documents, added to those of the sections."""
    part = join_parts(parts)
    batch, n_units = _add_mentions(part.batch, mentions), part.n_units
    write_record_batch(folder / "sections.arrow", batch)
    write_bm25(folder / "bm25.arrow", list(zip(part.fields, FIELD_WEIGHTS, strict=True)))
    rows: dict[str, int] = {}
    for row, title in enumerate(batch.column("title")[:n_units].to_pylist()):
        rows.setdefault(title, row)
    names = (
        _name_documents(batch, n_units)
        | {alias: rows[title] for alias, title in aliases.items() if title in rows}
        | rows
    )
    write_names(folder / "names.arrow", names.items())
    write_arrays(folder / "links.arrow", _make_links(batch, n_units, names, bases))
    with (folder / "sections.arrow").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    about = {"format": FORMAT, "n_sections": batch.num_rows, "n_units": n_units, "sha256": digest}
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _name_documents(batch: pa.RecordBatch, n_units: int) -> dict[str, int]:
    """Return the first row of each document of prose by the document's title."""
    rows: dict[str, int] = {}
    columns = (batch.column(name)[:n_units].to_pylist() for name in ("title", "kind"))
    for row, (title, kind) in enumerate(zip(*columns, strict=True)):
        if kind != "symbol":
            rows.setdefault(title.partition(": ")[0].partition(" §")[0], row)
    return rows


def _add_mentions(batch: pa.RecordBatch, mentions: Mapping[str, int]) -> pa.RecordBatch:
    if not mentions:
        return batch
    at = batch.schema.get_field_index("n_mentions")
    counts = [
        n + mentions.get(title, 0)
        for n, title in zip(batch.column(at).to_pylist(), batch.column("title").to_pylist(), strict=True)
    ]
    return batch.set_column(at, batch.schema.field(at), pa.array(counts, pa.int32()))


def _make_links(
    batch: pa.RecordBatch, n_units: int, names: Mapping[str, int], bases: Mapping[str, Sequence[str]]
) -> dict[str, Array]:
    doc_ids, kinds = batch.column("doc_id").to_pylist(), batch.column("kind")[:n_units].to_pylist()
    rows = {doc_ids[row]: row for row, kind in enumerate(kinds) if kind == "symbol"}
    owners = np.array([rows[doc_id] for doc_id in doc_ids[n_units:]], np.int64)
    ancestors: list[list[int]] = [[] for _ in range(n_units)]
    for title, base_names in bases.items():
        if title in names:
            ancestors[names[title]] = [names[name] for name in base_names if name in names]
    return {
        "facet_starts": n_units + np.searchsorted(owners, np.arange(n_units + 1)),
        "base_starts": np.concatenate([[0], np.cumsum([len(line) for line in ancestors])]).astype(np.int64),
        "base_rows": np.array([row for line in ancestors for row in line], np.int64),
    }


class Segment:
    """An opened segment. Threads and processes may share it: nothing is ever written."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.name, self.digest = folder, folder.name, str(about["sha256"])
        self.sections = Sections.open(folder / "sections.arrow")
        self.bm25 = Bm25.open(folder / "bm25.arrow")
        self.names = NameTable.open(folder / "names.arrow", self.sections.n_units)
        links = map_arrays(folder / "links.arrow", LINKS)
        self._facet_starts, self._base_starts, self._base_rows = (links[name] for name in LINKS)

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """Open a segment. Raises: ValueError for a folder that is missing, incomplete, damaged or of an earlier version."""
        segment = cls(folder, _read_about(folder))
        n_units, n = segment.sections.n_units, len(segment.sections)
        starts, bases, ends = segment._facet_starts, segment._base_rows, segment._base_starts
        is_whole = segment.bm25.n_units == n_units == len(starts) - 1 == len(ends) - 1
        if not is_whole or int(starts[-1]) != n or int(ends[-1]) != len(bases) or int(bases.max(initial=-1)) >= n_units:
            raise ValueError(describe_foreign(folder, "files that do not belong together"))
        return segment

    def __len__(self) -> int:
        return len(self.sections)

    def list_facets(self, row: int) -> range:
        """Return the rows of the facets of a unit."""
        return range(int(self._facet_starts[row]), int(self._facet_starts[row + 1]))

    def list_bases(self, row: int) -> list[int]:
        """Return the rows of a class's ancestors in the order in which Python looks attributes up."""
        return [int(base) for base in self._base_rows[int(self._base_starts[row]) : int(self._base_starts[row + 1])]]


def is_segment(folder: Path) -> bool:
    """Return whether a folder claims to be a segment."""
    return (folder / ABOUT).is_file()


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(describe_foreign(path, f"format {about['format']!r} instead of {FORMAT}"))
        return {**about, "sha256": str(about["sha256"])}
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(describe_foreign(path, f"{type(error).__name__}: {error}")) from error
