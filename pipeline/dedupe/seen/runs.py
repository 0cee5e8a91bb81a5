"""Define an index of earlier runs: its settings, its runs, and the rule for which document was earlier.

A run is a name, and the documents that were kept under it. Runs are numbered in the order they were added. A document has been
seen before when an earlier run holds one with the same normalised text, or one whose true Jaccard similarity reaches the
threshold. Of several the earliest run's counts, then an exact duplicate, then the most alike, then the smallest id.

A document is compared with what was there before itself: if the index holds its id, only the runs before that one count. So
a corpus that is run again stays whole, and two documents never stand in for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash.sketch import Sketches, sketch
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_batches
from pipeline.text.columns import Fractions

FORMAT = 1


class Settings(NamedTuple):
    """What must agree between those who fill an index and those who ask it."""

    ngram_words: int
    n_bands: int
    n_rows: int
    seed: int
    scheme: str = minhash.SCHEME
    format: int = FORMAT


class IndexedRun(NamedTuple):
    """One added run. `content` and `removed` are 32 hex digits over its ids and texts, and over the ids taken out of it."""

    name: str
    number: int
    content: str
    n_docs: int
    n_removed: int
    removed: str


class SeenDocuments(NamedTuple):
    """For each document asked about; `other_id` is null and `similarity` 0 where nothing was seen before."""

    is_seen: np.ndarray
    is_exact: np.ndarray
    similarity: Fractions
    other_id: pa.StringArray


class Added(NamedTuple):
    """`is_new` is false when the index held this very run already."""

    run: IndexedRun
    is_new: bool


class Content:
    """Hashes ids and normalised texts as they pass: what `IndexedRun.content` holds."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def update(self, ids: pa.StringArray, digests: pa.FixedSizeBinaryArray) -> Content:
        for doc_id, digest in zip(ids.to_pylist(), digests.to_pylist(), strict=True):
            self._hash.update(doc_id.encode() + b"\0" + digest)
        return self

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def hash_ids(ids: Sequence[str]) -> str:
    """32 hex digits of a set of ids; empty for none."""
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(ids)).encode()) if ids else ""


def sketch_docs(docs: Path, settings: Settings) -> Iterator[Sketches]:
    """The sketches of a folder of documents, one batch at a time."""
    return sketch_batches(read_batches(docs, ["id", "text"]), settings)


def sketch_batches(batches: Iterable[pa.RecordBatch], settings: Settings) -> Iterator[Sketches]:
    """The sketches of batches with the columns id and text."""
    permuted = minhash.permutations(settings.n_bands * settings.n_rows, settings.seed)
    for batch in batches:
        yield sketch(batch.column("id"), batch.column("text"), settings.ngram_words, permuted)


def content_of(docs: Path, settings: Settings) -> str:
    """What `IndexedRun.content` would be, without adding anything."""
    content = Content()
    for part in sketch_docs(docs, settings):
        content.update(part.ids, part.digests)
    return content.hexdigest()


def same_run(known: IndexedRun, docs: Path, settings: Settings) -> Added:
    """`known` again, if the folder holds what was added under its name. Raises `UserError` if not."""
    found = content_of(docs, settings)
    if found != known.content:
        raise UserError(
            f"dedupe.index: run {known.name} was added with other documents",
            f"{known.n_docs:,} documents with hash {known.content} there, {found} in {docs}",
            "give the new documents a name of their own",
        )
    return Added(known, is_new=False)


def check_settings(place: str, stored: Settings | None, wanted: Settings) -> None:
    """Raises `UserError` when the index was filled with other settings."""
    if stored is not None and stored != wanted:
        pairs = zip(Settings._fields, stored, wanted, strict=True)
        differ = [f"{name} = {there} there, {here} here" for name, there, here in pairs if there != here]
        raise UserError(
            f"dedupe.index: {place} was filled with other settings",
            "; ".join(differ),
            "set dedupe back to the index's settings, or fill a new index",
        )


def twice(name: str, doc_id: str) -> UserError:
    """A run names each document once."""
    return UserError(
        f"dedupe.index: run {name} holds an id twice", doc_id, "run dedupe or download, which drop such copies"
    )


def nothing_seen(n: int) -> SeenDocuments:
    """The answer for `n` documents of which none was seen."""
    return SeenDocuments(np.zeros(n, bool), np.zeros(n, bool), np.zeros(n), pa.nulls(n, pa.string()))
