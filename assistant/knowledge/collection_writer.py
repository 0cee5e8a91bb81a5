"""Write to a collection: add and remove documents, merge segments, rebuild.

In: documents with their sections, ids to remove. Out: new segments and a new manifest. One process writes at a time; a second one
says who holds the lock and waits. A change is complete when the manifest is replaced: after kill -9 at any moment the collection
is as before or as after, and the next writer removes what no manifest names. Removing a document rewrites the segments that
contain it without it and deletes the old ones, so its bytes are gone from every file. Memory: the sections of the segments that
are rewritten, each at most `MAX_MERGED_SECTIONS` or one import's batch.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from collections.abc import Collection as Ids
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from filelock import FileLock, Timeout

from assistant.knowledge.collection import (
    DOCUMENT_COLUMNS,
    DOCUMENTS,
    LOCK,
    MANIFEST,
    SEGMENTS,
    Collection,
    Manifest,
    SegmentEntry,
    StoredDocument,
    get_collection_folder,
    read_documents,
    sync_folder,
    write_manifest,
)
from assistant.knowledge.segment_vectors import drop_all_vectors
from model.retrieval.mapped_arrays import write_record_batch
from model.retrieval.sections import Section, Sections
from model.retrieval.segment import write_segment

MAX_MERGED_SECTIONS = 50_000  # a larger segment is not merged any more: bounds memory and the time of a merge
MAX_SMALL_SEGMENTS = 4  # while an import runs; at its end small segments become one
POLL_SECONDS = 0.2
PARTIAL = ".partial"
SECTIONS_FILE = "sections.arrow"  # of a segment, as model.retrieval writes it


class NewDocument(NamedTuple):
    """A document with its sections, ready to be written."""

    stored: StoredDocument
    sections: list[Section]


@contextmanager
def open_writer(
    name: str, say: Callable[[str], None], collections_folder: Path | None = None
) -> Generator[CollectionWriter]:
    """Lock a collection, make it if there is none, and yield its writer. While another process writes, `say` who, and wait.
    `collections_folder` has the collections (default: MINIGPT_COLLECTIONS)."""
    folder = get_collection_folder(name, collections_folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = folder / LOCK
    lock = FileLock(lock_file, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = lock_file.read_text(encoding="utf-8").strip() or "another process"
        say(f"waiting: {holder} is writing to the collection {name}")
        lock.acquire(poll_interval=POLL_SECONDS)
    try:
        lock_file.write_text(f"process {os.getpid()}\n", encoding="utf-8")
        if not (folder / MANIFEST).is_file():
            write_manifest(folder, Manifest())
        yield CollectionWriter(Collection(folder))
    finally:
        os.truncate(lock_file, 0)
        lock.release()


class CollectionWriter:
    """The one writer of a collection. Each method leaves a complete collection."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        (collection.folder / SEGMENTS).mkdir(exist_ok=True)
        self.remove_unnamed()

    @property
    def manifest(self) -> Manifest:
        """The present manifest."""
        return self.collection.manifest

    def commit(self, new: Sequence[NewDocument], removed: Ids[str] = ()) -> None:
        """Add documents and remove others, by doc_id, in one step."""
        affected = self._find_affected(removed)
        kept = [entry for entry in self.manifest.segments if entry not in affected]
        written = [self._rewrite([entry], removed) for entry in affected]
        if new:
            written.append(
                self._write_segment([each.stored for each in new], [s for each in new for s in each.sections])
            )
        self._replace_segments([*kept, *(entry for entry in written if entry is not None)])
        if sum(entry.n_sections < MAX_MERGED_SECTIONS for entry in self.manifest.segments) > MAX_SMALL_SEGMENTS:
            self.merge_small()

    def merge_small(self) -> None:
        """Merge the small segments into one, as far as the result is not larger than `MAX_MERGED_SECTIONS`."""
        merged: list[SegmentEntry] = []
        for entry in sorted(self.manifest.segments, key=lambda entry: (entry.n_sections, entry.name)):
            if sum(each.n_sections for each in (*merged, entry)) <= MAX_MERGED_SECTIONS:
                merged.append(entry)
        if len(merged) > 1:
            merged.sort(key=lambda entry: entry.name)
            kept = [entry for entry in self.manifest.segments if entry not in merged]
            entry = self._rewrite(merged, ())
            self._replace_segments([*kept, *([entry] if entry else [])])

    def rebuild(self) -> None:
        """Write every segment anew from its sections: BM25, names and, with the next search, vectors."""
        rewritten = [self._rewrite([entry], ()) for entry in self.manifest.segments]
        self._replace_segments([entry for entry in rewritten if entry is not None])
        self.merge_small()

    def drop(self) -> None:
        """Remove the whole collection but for its lock, which this process holds."""
        (self.collection.folder / MANIFEST).unlink()
        for path in (self.collection.folder / SEGMENTS).iterdir():
            drop_all_vectors(self.collection.folder, path)
        shutil.rmtree(self.collection.folder / SEGMENTS)

    def set_store(self, store: str) -> None:
        """Note where vectors are searched."""
        write_manifest(self.collection.folder, replace(self.manifest, store=store))
        self.collection.refresh()

    def remove_unnamed(self) -> None:
        """Delete segments that the manifest does not name: what a killed writer has left, or what was replaced."""
        named = {entry.name for entry in self.manifest.segments}
        for path in (self.collection.folder / SEGMENTS).iterdir():
            if path.name not in named:
                drop_all_vectors(self.collection.folder, path)
                shutil.rmtree(path)

    def _find_affected(self, removed: Ids[str]) -> list[SegmentEntry]:
        if not removed:
            return []
        return [
            entry
            for entry in self.manifest.segments
            if any(document.doc_id in removed for document in read_documents(self.collection.get_segment_folder(entry)))
        ]

    def _rewrite(self, entries: Sequence[SegmentEntry], removed: Ids[str]) -> SegmentEntry | None:
        """Write the documents of some segments, without the removed ones, as a new segment; None if none is left."""
        documents: list[StoredDocument] = []
        sections: list[Section] = []
        for entry in entries:
            folder = self.collection.get_segment_folder(entry)
            documents += [each for each in read_documents(folder) if each.doc_id not in removed]
            stored = Sections.open(folder / SECTIONS_FILE)
            rows = (row for row, doc_id in enumerate(stored.column("doc_id")) if doc_id not in removed)
            sections += [stored[row] for row in rows]
        return self._write_segment(documents, sections) if documents else None

    def _write_segment(self, documents: Sequence[StoredDocument], sections: Sequence[Section]) -> SegmentEntry:
        """Write a complete segment that no manifest names yet."""
        name = f"{self.manifest.next_segment:06d}"
        segments = self.collection.folder / SEGMENTS
        partial = segments / (name + PARTIAL)
        partial.mkdir()
        write_segment(partial, sections)
        columns = [
            pa.array(list(values), field.type)
            for values, field in zip(zip(*documents, strict=True), DOCUMENT_COLUMNS, strict=True)
        ]
        write_record_batch(partial / DOCUMENTS, pa.record_batch(columns, schema=DOCUMENT_COLUMNS))
        for path in partial.iterdir():
            _sync_file(path)
        partial.rename(segments / name)
        sync_folder(segments)
        self.collection.manifest = replace(self.manifest, next_segment=self.manifest.next_segment + 1)
        return SegmentEntry(name, len(documents), len(sections))

    def _replace_segments(self, entries: Sequence[SegmentEntry]) -> None:
        ordered = tuple(sorted(entries, key=lambda entry: entry.name))
        write_manifest(self.collection.folder, replace(self.manifest, segments=ordered))
        self.collection.refresh()
        self.remove_unnamed()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def say_on_stderr(text: str) -> None:
    """Print a notice for the user."""
    print(text, file=sys.stderr, flush=True)
