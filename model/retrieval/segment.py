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
from typing import Any, NamedTuple

import numpy as np

from model.retrieval.bm25 import Bm25, write_bm25
from model.retrieval.mapped_arrays import Array, describe_foreign, map_arrays, write_arrays
from model.retrieval.name_table import NameTable, write_names
from model.retrieval.sections import FACET, Section, Sections, order_sections, write_sections
from model.retrieval.word_stems import split_texts

ABOUT = "segment.json"
FORMAT = 1
TITLE_WEIGHT, MAIN_WEIGHT, FACET_WEIGHT = 4, 2, 1
LINKS = ("facet_starts", "base_starts", "base_rows")


class UnitTexts(NamedTuple):
    """The searchable text of each unit: its title with the headings above it, its own text, and the texts of its facets."""

    titles: list[str]
    mains: list[str]
    facets: list[str]


def write_segment(
    folder: Path,
    sections: Iterable[Section],
    aliases: Mapping[str, str] | None = None,
    bases: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write a segment into an existing folder. `aliases`: further names → titles; `bases`: titles → names of their ancestors."""
    ordered = _sort_facets(order_sections(list(sections)))
    write_sections(folder / "sections.arrow", ordered)
    n_units = sum(section.kind != FACET for section in ordered)
    units = ordered[:n_units]
    texts = gather_unit_texts(ordered)
    weights = (TITLE_WEIGHT, MAIN_WEIGHT, FACET_WEIGHT)
    write_bm25(
        folder / "bm25.arrow", [(split_texts(field), weight) for field, weight in zip(texts, weights, strict=True)]
    )
    rows = {section.title: row for row, section in enumerate(units)}
    names = {**{alias: rows[title] for alias, title in (aliases or {}).items() if title in rows}, **rows}
    write_names(folder / "names.arrow", names.items())
    write_arrays(folder / "links.arrow", _make_links(ordered, n_units, names, bases or {}))
    with (folder / "sections.arrow").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    about = {"format": FORMAT, "n_sections": len(ordered), "n_units": n_units, "sha256": digest}
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _sort_facets(ordered: list[Section]) -> list[Section]:
    """Return units in their order, then facets in the order of their units."""
    n_units = sum(section.kind != FACET for section in ordered)
    rows = {section.doc_id: row for row, section in enumerate(ordered[:n_units]) if section.kind == "symbol"}
    if lost := next((section for section in ordered[n_units:] if section.doc_id not in rows), None):
        raise ValueError(f"section {lost.id} is a facet of document {lost.doc_id}, which has no section of kind symbol")
    return [*ordered[:n_units], *sorted(ordered[n_units:], key=lambda section: rows[section.doc_id])]


def _make_links(
    ordered: Sequence[Section], n_units: int, names: Mapping[str, int], bases: Mapping[str, Sequence[str]]
) -> dict[str, Array]:
    rows = {section.doc_id: row for row, section in enumerate(ordered[:n_units]) if section.kind == "symbol"}
    owners = np.array([rows[section.doc_id] for section in ordered[n_units:]], np.int64)
    ancestors: list[list[int]] = [[] for _ in range(n_units)]
    for title, base_names in bases.items():
        if title in names:
            ancestors[names[title]] = [names[name] for name in base_names if name in names]
    return {
        "facet_starts": n_units + np.searchsorted(owners, np.arange(n_units + 1)),
        "base_starts": np.concatenate([[0], np.cumsum([len(line) for line in ancestors])]).astype(np.int64),
        "base_rows": np.array([row for line in ancestors for row in line], np.int64),
    }


def gather_unit_texts(sections: Sequence[Section]) -> UnitTexts:
    """Return what BM25 and the embedder read of each unit; `sections` are those of a segment, in its order."""
    units = [section for section in sections if section.kind != FACET]
    facets: dict[str, list[str]] = {}
    for section in sections[len(units) :]:
        facets.setdefault(section.doc_id, []).append(section.text)
    return UnitTexts(
        [" ".join([unit.title, *unit.heading[:-1]]) for unit in units],
        [unit.text for unit in units],
        ["\n".join(facets.get(unit.doc_id, ())) if unit.kind == "symbol" else "" for unit in units],
    )


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
