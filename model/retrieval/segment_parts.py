"""The parts from which a segment is written: sections of some documents, and the words of their units.

In: sections. Out: values that can be made in several processes and joined: however the documents are distributed, the joined
part is the same. Memory: the sections. Time: O(characters).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from model.retrieval.sections import FACET, Section, make_batch, order_sections
from model.retrieval.word_stems import WordIds, split_texts


class UnitTexts(NamedTuple):
    """The searchable text of each unit: its title with the headings above it, its own text, and the texts of its facets."""

    titles: list[str]
    mains: list[str]
    facets: list[str]


class SegmentPart(NamedTuple):
    """Sections of whole documents, units first, and the words of the units' titles, own texts and facets."""

    batch: pa.RecordBatch
    fields: tuple[WordIds, ...]
    n_units: int


def make_part(sections: Sequence[Section]) -> SegmentPart:
    """Return the part of a segment that these sections are. Raises: ValueError for a facet without a section of kind symbol."""
    ordered = _sort_facets(order_sections(sections))
    texts = gather_unit_texts(ordered)
    return SegmentPart(make_batch(ordered), tuple(split_texts(field) for field in texts), len(texts.titles))


def join_parts(parts: Sequence[SegmentPart]) -> SegmentPart:
    """Return several parts as one: the units of all in order, then the facets of all in order."""
    tables = [pa.Table.from_batches([part.batch]) for part in parts]
    units = [table[: part.n_units] for table, part in zip(tables, parts, strict=True)]
    facets = [table[part.n_units :] for table, part in zip(tables, parts, strict=True)]
    batches = pa.concat_tables([*units, *facets]).combine_chunks().to_batches()
    batch = batches[0] if batches else make_batch([])
    fields = tuple(_join_words(field) for field in zip(*(part.fields for part in parts), strict=True))
    return SegmentPart(batch, fields, sum(part.n_units for part in parts))


def _join_words(fields: Sequence[WordIds]) -> WordIds:
    """Return the words of consecutive texts with common ids."""
    numbers: dict[str, int] = {}
    ids, offsets = [], [np.zeros(1, np.int64)]
    for field in fields:
        common = np.array([numbers.setdefault(word, len(numbers)) for word in field.words], np.int32)
        ids.append(common[field.ids] if len(field.ids) else field.ids)
        offsets.append(field.offsets[1:] + offsets[-1][-1])
    return WordIds(np.concatenate(ids), np.concatenate(offsets), list(numbers))


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


def _sort_facets(ordered: list[Section]) -> list[Section]:
    """Return units in their order, then facets in the order of their units."""
    n_units = sum(section.kind != FACET for section in ordered)
    rows = {section.doc_id: row for row, section in enumerate(ordered[:n_units]) if section.kind == "symbol"}
    if lost := next((section for section in ordered[n_units:] if section.doc_id not in rows), None):
        raise ValueError(f"section {lost.id} is a facet of document {lost.doc_id}, which has no section of kind symbol")
    return [*ordered[:n_units], *sorted(ordered[n_units:], key=lambda section: rows[section.doc_id])]
