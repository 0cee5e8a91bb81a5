"""Cut the filtered documents into sections and index them: names, words, places. The assistant searches the result.

In: documents. Out: a segment (model.retrieval.segment), part of every registered version. Every public name is in it, whatever
training leaves out. Memory: a few times `max_sample_bytes`. Time: O(characters), 20 CPU-s for 40 MB, two thirds of them in workers.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from model.retrieval.cutting.source_texts import SourceText, cut_document, make_titles_unique
from model.retrieval.sections import FACET
from model.retrieval.segment import Segment, write_parts
from model.retrieval.segment_parts import SegmentPart, make_part
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.index.mentions import count_names, resolve_mentions
from pipeline.index.params import Index
from pipeline.storage.sample import sample_docs
from pipeline.workers.map import map_shards

COLUMNS = ("id", "text", "source", "locator", "title", "url", "license")
CHUNK_CHARS = 2_500_000  # of text per task: about 0.7 s


class IndexedChunk(NamedTuple):
    """What a worker makes of some documents: a part of the segment, the names in the texts, the number of empty documents."""

    part: SegmentPart
    names: Counter[str]
    n_empty: int


def run(params: Index, *, docs: Path, out: Path) -> Metrics:
    """Write the segment. Raises `UserError` if the documents give no section."""
    table = sample_docs(docs, COLUMNS, params.max_sample_bytes, params.seed).sort_by("id")
    titles = table.column("title").to_pylist()
    locators = [parse_locator(locator) for locator in table.column("locator").to_pylist()]
    texts = make_titles_unique(read_texts(table, locators))
    chunks = list(map_shards(partial(index_chunk, max_chars=params.section_chars), _cut_chunks(texts)))
    if not any(chunk.part.n_units for chunk in chunks):
        raise UserError("index: no sections to search", f"{docs} gives none", "add sources, or loosen filter")
    aliases, bases = list_defining_names(titles, locators)
    names = sum((chunk.names for chunk in chunks), Counter[str]())
    write_parts(out, [chunk.part for chunk in chunks], resolve_mentions(names, titles), aliases, bases)
    return measure(out) | {"docs_without_section": table.num_rows - len(texts) + sum(chunk.n_empty for chunk in chunks)}


def index_chunk(texts: Sequence[SourceText], max_chars: int) -> IndexedChunk:
    """Cut some documents and split their words; runs in a worker. Sections have no cycles: the collector would only cost time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        cut = [cut_document(text, max_chars) for text in texts]
        names = count_names([text.title for text in texts], [text.text for text in texts])
        return IndexedChunk(make_part([section for sections in cut for section in sections]), names, cut.count([]))
    finally:
        if was_enabled:
            gc.enable()


def _cut_chunks(texts: Sequence[SourceText]) -> Iterator[list[SourceText]]:
    chunk: list[SourceText] = []
    n_chars = 0
    for text in texts:
        chunk.append(text)
        n_chars += len(text.text)
        if n_chars >= CHUNK_CHARS:
            yield chunk
            chunk, n_chars = [], 0
    if chunk:
        yield chunk


def measure(folder: Path) -> Metrics:
    """Return the metrics of a segment."""
    sections = Segment.open(folder).sections
    kinds = Counter(sections.column("kind"))
    return {
        "sections": len(sections),
        "symbols": kinds["symbol"],
        "facets": kinds[FACET],
        "prose_sections": kinds["guide"] + kinds["text"],
        "text_bytes": pc.sum(pc.binary_length(sections.batch.column("text"))).as_py(),
        "index_bytes": sum(path.stat().st_size for path in folder.iterdir()),
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
        kind = str(locator.get("kind", "")) if is_symbol else ""
        yield SourceText(id_, text, source, title, url, license_, kind, signature)


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
