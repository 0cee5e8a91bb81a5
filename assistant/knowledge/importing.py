"""Import documents into a collection: only what is new or has changed is parsed, and everything that is not taken is counted.

In: paths and URLs. Out: an `ImportReport`, and the collection. A document whose bytes are already in the collection under its key
is unchanged; one with other bytes replaces its sections; one that is gone from a folder or archive named again is removed.
Batches of `BATCH_CHARS` are committed as they are ready, so that a killed import goes on where it was: what is committed is
unchanged for the next one. Memory: one document, one batch, and 32 bytes and the key of each document. Time: that of the parsers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import xxhash

from assistant.knowledge.collection import StoredDocument
from assistant.knowledge.collection_writer import CollectionWriter, NewDocument
from assistant.knowledge.find_documents import (
    FoundDocument,
    SkippedDocument,
    covers,
    find_documents,
    list_containers,
    make_root,
)
from assistant.knowledge.parsers.choose_parser import parse_bytes, read_source_text
from assistant.knowledge.parsers.layout import ParseError
from assistant.knowledge.pipeline_door import MatchTakedown
from assistant.knowledge.place_blocks import cut_blocks, lay_out
from model.retrieval.cutting.source_texts import SourceText

BATCH_CHARS = 8_000_000
BATCH_DOCUMENTS = 10_000
MAX_EXAMPLES = 3  # per reason


@dataclass
class ImportReport:
    """What an import did. `reasons` counts what was not taken; `examples` has the first of each reason as (key, detail)."""

    n_added: int = 0
    n_changed: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_sections: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])

    def reject(self, key: str, reason: str, detail: str) -> None:
        """Count something that was not taken."""
        self.reasons[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append((key, detail))


@dataclass(frozen=True)
class _Known:
    """What the collection has: the hash of the bytes and the id of each key, and the keys of the contents."""

    by_key: dict[str, tuple[bytes, str]]
    contents: dict[bytes, str]


class Importer:
    """One import into one collection. `advance` is called for each file with its size."""

    def __init__(
        self,
        writer: CollectionWriter,
        match_takedown: MatchTakedown = lambda documents: [None] * len(documents),
        advance: Callable[[int], None] = lambda _: None,
        license: str = "unknown",
    ) -> None:
        self.writer, self._match_takedown, self.advance, self.license = writer, match_takedown, advance, license
        self.report = ImportReport()
        documents = [document for _, document in writer.collection.iterate_documents()]
        by_key = {each.key: (bytes.fromhex(each.sha256), each.doc_id) for each in documents}
        self._known = _Known(by_key, {content: key for key, (content, _) in by_key.items()})
        self._seen: set[str] = set()
        self._failed: set[str] = set()
        self._new: list[NewDocument] = []
        self._replaced: set[str] = set()
        self._n_chars = 0

    def run(self, names: Sequence[str]) -> ImportReport:
        """Import everything that the paths and URLs name."""
        for found in find_documents(list(names)):
            self._seen.add(found.key)
            if isinstance(found, SkippedDocument):
                self.report.reject(found.key, found.reason, found.detail)
                self._failed.add(found.key)
                self.advance(0)
            else:
                self._take(found)
                self.advance(found.n_bytes)
            if self._n_chars >= BATCH_CHARS or len(self._new) >= BATCH_DOCUMENTS:
                self._commit()
        self._remove_gone([make_root(name) for name in names])
        self._commit()
        self.writer.merge_small()
        return self.report

    def _take(self, found: FoundDocument) -> None:
        """Read a document; parse it if it is new or has changed."""
        try:
            data = found.read()
        except ParseError as error:  # what the collection has of it stays: it may be readable again tomorrow
            self.report.reject(found.key, error.reason, error.detail)
            return
        content = hashlib.sha256(data).digest()
        known = self._known.by_key.get(found.key)
        if known and known[0] == content:
            self.report.n_unchanged += 1
            return
        other = self._known.contents.get(content)
        if other is not None and other != found.key:
            self.report.reject(found.key, "duplicate", f"the same bytes as {other}")
            new = None
        else:
            new = self._parse(found, data, content)
        if known:
            self._forget(found.key)
        if new is not None:
            self._keep(new, content, is_changed=known is not None)

    def _parse(self, found: FoundDocument, data: bytes, content: bytes) -> NewDocument | None:
        try:
            parsed = parse_bytes(found.kind, data)
        except ParseError as error:
            self.report.reject(found.key, error.reason, error.detail)
            return None
        for reason, detail in parsed.notes:
            self.report.reject(found.key, reason, detail)
        laid_out = lay_out(parsed.blocks)
        name = self.writer.collection.name
        doc_id = compute_document_id(name, found.key, laid_out.text)
        text_sha256 = hashlib.sha256(read_source_text(found.kind, data, laid_out.text).encode()).hexdigest()
        title = parsed.title or make_title(found.key)
        stored = StoredDocument(
            found.key, doc_id, title, content.hex(), text_sha256, len(data), 0, found.url, self.license
        )
        if stone := self._match_takedown([stored])[0]:
            self.report.reject(found.key, "takedown", f"{stone} is taken down")
            return None
        source = SourceText(doc_id, laid_out.text, f"collection/{name}", title, found.url or found.key, self.license)
        sections = cut_blocks(laid_out, source)
        if not sections:
            self.report.reject(found.key, "no_text", "it has no letters or digits")
            return None
        return NewDocument(stored._replace(n_sections=len(sections)), sections)

    def _keep(self, new: NewDocument, content: bytes, *, is_changed: bool) -> None:
        self._new.append(new)
        self._n_chars += sum(len(section.text) for section in new.sections)
        self._known.by_key[new.stored.key] = (content, new.stored.doc_id)
        self._known.contents[content] = new.stored.key
        self.report.n_changed += is_changed
        self.report.n_added += not is_changed
        self.report.n_sections += len(new.sections)

    def _forget(self, key: str) -> None:
        """Remove a document with the next commit."""
        content, doc_id = self._known.by_key.pop(key)
        if self._known.contents.get(content) == key:
            del self._known.contents[content]
        self._replaced.add(doc_id)

    def _remove_gone(self, roots: Sequence[str]) -> None:
        """Remove documents that were found below these roots before and are not there any more."""
        gone = [key for key in self._known.by_key if key not in self._seen and any(covers(root, key) for root in roots)]
        for key in gone:
            if self._failed.isdisjoint(list_containers(key)):  # else its folder or archive can't be read now
                self._forget(key)
                self.report.n_removed += 1

    def _commit(self) -> None:
        if self._new or self._replaced:
            self.writer.commit(self._new, frozenset(self._replaced))
        self._new, self._replaced, self._n_chars = [], set(), 0


def make_title(key: str) -> str:
    """Return the name of a file without its endings, for a document that states no title."""
    name = key.rstrip("/").rpartition("/")[2].partition("?")[0]
    stem = name.removeprefix(".").partition(".")[0]
    return stem or name or key


def compute_document_id(collection: str, key: str, text: str) -> str:
    """Return 32 hex digits that identify the text and its location, by the rule of the pipeline's documents."""
    locator = json.dumps({"path": key}, ensure_ascii=False, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest("\0".join((f"collection/{collection}", locator, text)).encode())


def list_reasons(report: ImportReport) -> Iterator[str]:
    """Yield a line per reason with its number and examples, the most frequent first."""
    for reason, n in report.reasons.most_common():
        shown = "; ".join(f"{key}: {detail}" for key, detail in report.examples[reason])
        yield f"{n:,} {reason} ({shown}{' …' if n > len(report.examples[reason]) else ''})"
