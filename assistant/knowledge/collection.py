"""A collection of a user's own documents: a manifest and immutable segments.

    var/collections/NAME/manifest.json            the segments that count, replaced atomically
                        /segments/000001/…        sections, BM25 and names (model.retrieval), documents.arrow, vectors-…/
                        /lock                     held by the one process that writes

In: a name. Out: its documents and segments, as of one manifest. A reader needs no lock: what a manifest names is complete, and a
segment that a writer removed meanwhile is noticed, and the manifest read again. Memory: segments are mapped; the table of
documents is read when it is asked for.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from model.retrieval.mapped_arrays import map_record_batch

FORMAT = 1
MANIFEST, SEGMENTS, DOCUMENTS, LOCK = "manifest.json", "segments", "documents.arrow", "lock"
NAME = re.compile(r"[^\W_][\w.-]{0,63}")
DOCUMENT_COLUMNS = pa.schema(
    [
        ("key", pa.string()),  # absolute path, archive!/member, or URL
        ("doc_id", pa.string()),
        ("title", pa.string()),
        ("sha256", pa.string()),  # of the bytes: whether the document has changed
        ("text_sha256", pa.string()),  # of the text: by which a takedown finds copies
        ("n_bytes", pa.int64()),
        ("n_sections", pa.int32()),
        ("url", pa.string()),
        ("license", pa.string()),
    ]
)


class StoredDocument(NamedTuple):
    """One document of a collection, a row of documents.arrow."""

    key: str
    doc_id: str
    title: str
    sha256: str
    text_sha256: str
    n_bytes: int
    n_sections: int
    url: str
    license: str


class SegmentEntry(NamedTuple):
    """A segment as the manifest names it: its folder, and how many documents and sections it has."""

    name: str
    n_documents: int
    n_sections: int


@dataclass(frozen=True)
class Manifest:
    """What a collection consists of. `store` is where vectors are searched: exact, faiss, or the URI of a Milvus server."""

    segments: tuple[SegmentEntry, ...] = ()
    next_segment: int = 1
    store: str = ""
    format: int = FORMAT

    @property
    def n_documents(self) -> int:
        """The number of documents."""
        return sum(entry.n_documents for entry in self.segments)

    @property
    def n_sections(self) -> int:
        """The number of sections."""
        return sum(entry.n_sections for entry in self.segments)


def get_collections_folder() -> Path:
    """Return the folder of all collections: MINIGPT_COLLECTIONS, by default var/collections."""
    return Path(os.environ.get("MINIGPT_COLLECTIONS") or "var/collections")


def get_collection_folder(name: str, folder: Path | None = None) -> Path:
    """Return the folder of a collection, whether it exists or not. `folder` has the collections (default: MINIGPT_COLLECTIONS).
    Raise ValueError for what is no name."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"--collection: not a name; found {name[:80]!r}; use letters, digits, '.', '-' and '_', at most 64, such as handbook"
        )
    return (folder or get_collections_folder()) / name


def list_collections(folder: Path | None = None) -> list[str]:
    """Return the names of all collections in a folder (default: MINIGPT_COLLECTIONS), sorted."""
    return sorted(path.parent.name for path in (folder or get_collections_folder()).glob(f"*/{MANIFEST}"))


def open_collection(name: str, folder: Path | None = None) -> Collection:
    """Open a collection in a folder (default: MINIGPT_COLLECTIONS). Raise ValueError if there is none of this name, or if it is
    broken."""
    path = get_collection_folder(name, folder)
    if not (path / MANIFEST).is_file():
        others = ", ".join(list_collections(folder)) or "none"
        raise ValueError(
            f"--collection {name}: there is no such collection; found {others} in {path.parent}; make it with: "
            f"python -m assistant.knowledge add PATH --collection {name}"
        )
    return Collection(path)


class Collection:
    """A collection as of one manifest. `refresh` reads the manifest again if it was replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder.absolute(), folder.name
        self._read = b""
        self.manifest = Manifest()
        self.refresh()

    def refresh(self) -> bool:
        """Read the manifest again if it was replaced. Return whether it was. Raise ValueError if it is broken or gone."""
        try:
            data = (self.folder / MANIFEST).read_bytes()
        except OSError as error:
            raise ValueError(_describe_broken(self.folder, f"no readable {MANIFEST}")) from error
        if data == self._read:
            return False
        self.manifest, self._read = parse_manifest(self.folder, data), data
        return True

    def get_segment_folder(self, entry: SegmentEntry) -> Path:
        """Return the folder of a segment."""
        return self.folder / SEGMENTS / entry.name

    def iterate_documents(self) -> Iterator[tuple[SegmentEntry, StoredDocument]]:
        """Yield every document with its segment."""
        for entry in self.manifest.segments:
            for document in read_documents(self.get_segment_folder(entry)):
                yield entry, document


def read_documents(segment: Path) -> list[StoredDocument]:
    """Return the documents of a segment. Raise ValueError for a file that is missing or broken."""
    batch = map_record_batch(segment / DOCUMENTS)
    if batch.schema.names != DOCUMENT_COLUMNS.names:
        raise ValueError(_describe_broken(segment.parent.parent, f"{segment / DOCUMENTS} has other columns"))
    return [StoredDocument(*row.values()) for row in batch.to_pylist()]


def parse_manifest(folder: Path, data: bytes) -> Manifest:
    """Return the manifest. Raise ValueError if it is broken or of a later version."""
    try:
        values: dict[str, Any] = json.loads(data)
        entries = tuple(SegmentEntry(*entry) for entry in values.pop("segments"))
        manifest = Manifest(segments=entries, **values)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(_describe_broken(folder, f"{type(error).__name__}: {error}")) from error
    if manifest.format != FORMAT:
        raise ValueError(_describe_broken(folder, f"format {manifest.format}, this version reads {FORMAT}"))
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically and durably: after a crash there is the old one or the new one."""
    values = {**asdict(manifest), "segments": [list(entry) for entry in manifest.segments]}
    partial = folder / f"{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / MANIFEST)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _describe_broken(folder: Path, found: str) -> str:
    return (
        f"the collection {folder.name} is broken; found {found}; remove {folder} and add its documents again "
        f"(python -m assistant.knowledge add PATH --collection {folder.name})"
    )
