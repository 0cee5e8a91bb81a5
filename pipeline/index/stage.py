"""Cut the filtered documents into sections and index them: names, words, places. The assistant searches the result.

In: documents. Out: a segment (model.retrieval.segment), part of every registered version. Every public name is in it, whatever
training leaves out. Memory: a few times `max_sample_bytes`. Time: O(characters), about 15 s for 40 MB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from model.retrieval.cutting.documents import SourceText, cut_documents
from model.retrieval.rendering import render_passage
from model.retrieval.sections import FACET, Section
from model.retrieval.segment import write_segment
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.index.mentions import count_mentions
from pipeline.index.params import Index
from pipeline.storage.sample import sample_docs
from pipeline.storage.tables import PASSAGES, write_table
from pipeline.text.passage import Passage

COLUMNS = ("id", "text", "source", "locator", "title", "url", "license")


def run(params: Index, *, docs: Path, out: Path) -> Metrics:
    """Write the segment. Raises `UserError` if the documents give no section."""
    table = sample_docs(docs, COLUMNS, params.max_sample_bytes, params.seed).sort_by("id")
    locators = [parse_locator(locator) for locator in table.column("locator").to_pylist()]
    cut = list(cut_documents(read_texts(table, locators), params.section_chars))
    mentions = count_mentions(table.column("title").to_pylist(), table.column("text").to_pylist())
    sections = [section._replace(n_mentions=mentions[section.title]) for doc in cut for section in doc]
    if not sections:
        raise UserError("index: no sections to search", f"{docs} gives none", "add sources, or loosen filter")
    aliases, bases = list_defining_names(table.column("title").to_pylist(), locators)
    write_segment(out, sections, aliases, bases)
    write_table(out / "passages.parquet", make_passages(sections))
    kinds = [section.kind for section in sections]
    return {
        "sections": len(sections),
        "symbols": kinds.count("symbol"),
        "facets": kinds.count(FACET),
        "prose_sections": kinds.count("guide") + kinds.count("text"),
        "docs_without_section": sum(not doc for doc in cut),
        "text_bytes": sum(len(section.text.encode()) for section in sections),
        "index_bytes": sum(path.stat().st_size for path in out.iterdir()),
    }


def parse_locator(locator: str) -> dict[str, Any]:
    """Return where a document comes from; of a symbol also its kind, signature and the name under which it is defined."""
    values = json.loads(locator) if locator else {}
    return values if isinstance(values, dict) else {}


def read_texts(table: pa.Table, locators: Sequence[Mapping[str, Any]]) -> Iterator[SourceText]:
    """Yield the documents of a table."""
    columns = [table.column(name).to_pylist() for name in ("id", "text", "source", "title", "url", "license")]
    for (id_, text, source, title, url, license_), locator in zip(zip(*columns, strict=True), locators, strict=True):
        is_symbol = source.startswith("python_docs/")
        signature = " ".join(str(locator.get("signature", "")).split()) if is_symbol else ""
        yield SourceText(
            id_, text, source, title, url, license_, str(locator.get("kind", "")) if is_symbol else "", signature
        )


def list_defining_names(
    titles: Sequence[str], locators: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the title of each name under which a symbol is defined, and the defining names of each class's ancestors."""
    aliases: dict[str, str] = {}
    bases: dict[str, list[str]] = {}
    for title, locator in zip(titles, locators, strict=True):
        if locator.get("module") and locator.get("qualname"):
            aliases.setdefault(f"{locator['module']}.{locator['qualname']}", title)
        if isinstance(locator.get("bases"), list):
            bases.setdefault(title, [str(name) for name in locator["bases"]])
    return aliases, bases


def make_passages(sections: Sequence[Section]) -> pa.Table:
    """Return the units as a table of `PASSAGES`."""
    units = [(section, render_passage(section)) for section in sections if section.kind != FACET]
    rows = [
        Passage(
            section.id,
            section.title,
            text,
            text.partition('"')[2].partition('"')[0] or text,
            section.source,
            section.license,
            section.kind == "symbol",
        )
        for section, text in units
    ]
    columns = list(zip(*rows, strict=True)) or [[] for _ in PASSAGES]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, PASSAGES, strict=True)], PASSAGES)
