"""Define an index of earlier runs: its settings, its runs, and the rule for which document was earlier.

A run is a name and the documents that were kept under it. Runs are numbered in the order they were added. A document has been
seen before if an earlier run contains one with the same normalized text, or one whose true Jaccard similarity reaches the
threshold. Of several, the earliest run's counts, then an exact duplicate, then the most similar, then the smallest id.

A document is compared only with documents that were there before it: if the index contains its id, only runs before that one count.
So nothing is dropped when a corpus is run again, and two documents are never dropped in favor of each other.
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
from pipeline.storage.tables import read_training_batches
from pipeline.text.columns import Fractions

FORMAT = 1


class Settings(NamedTuple):
    """Hold the settings that must be the same for filling an index and for querying it."""

    ngram_words: int
    n_bands: int
    n_rows: int
    seed: int
    scheme: str = minhash.SCHEME
    format: int = FORMAT


class IndexedRun(NamedTuple):
    """Describe one added run. `content` and `removed` are hashes (32 hex digits) of its ids and texts, and of the ids removed from
    it."""

    name: str
    number: int
    content: str
    n_docs: int
    n_removed: int
    removed: str


class SeenDocuments(NamedTuple):
    """Hold the answer for each queried document; `other_id` is null and `similarity` 0 for one that was not seen before."""

    is_seen: np.ndarray
    is_exact: np.ndarray
    similarity: Fractions
    other_id: pa.StringArray


class Added(NamedTuple):
    """Describe an added run; `is_new` is false if the index already contained exactly this run."""

    run: IndexedRun
    is_new: bool


class ContentHash:
    """Hash ids and normalized texts incrementally, for `IndexedRun.content`."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def update(self, ids: pa.StringArray, digests: pa.FixedSizeBinaryArray) -> ContentHash:
        for doc_id, digest in zip(ids.to_pylist(), digests.to_pylist(), strict=True):
            self._hash.update(doc_id.encode() + b"\0" + digest)
        return self

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def hash_ids(ids: Sequence[str]) -> str:
    """Return a hash of a set of ids, 32 hex digits; empty for no ids."""
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(ids)).encode()) if ids else ""


def sketch_docs(docs: Path, settings: Settings) -> Iterator[Sketches]:
    """Yield the sketches of a folder of documents, one batch at a time."""
    return sketch_batches(read_training_batches(docs, ["id", "text"]), settings)


def sketch_batches(batches: Iterable[pa.RecordBatch], settings: Settings) -> Iterator[Sketches]:
    """Yield the sketches of batches with the columns id and text."""
    permuted = minhash.draw_permutations(settings.n_bands * settings.n_rows, settings.seed)
    for batch in batches:
        yield sketch(batch.column("id"), batch.column("text"), settings.ngram_words, permuted)


def hash_content(docs: Path, settings: Settings) -> str:
    """Return what `IndexedRun.content` would be for these documents."""
    content = ContentHash()
    for part in sketch_docs(docs, settings):
        content.update(part.ids, part.digests)
    return content.hexdigest()


def check_same_run(known: IndexedRun, docs: Path, settings: Settings) -> Added:
    """Return `known` as already added if the folder contains the documents that were added under its name. Raises `UserError` if
    not."""
    content = hash_content(docs, settings)
    if content != known.content:
        raise UserError(
            f"dedupe.index: run {known.name} was added with other documents",
            f"{known.n_docs:,} documents with hash {known.content} in the index, {content} in {docs}",
            "add the new documents under another name",
        )
    return Added(known, is_new=False)


def check_settings(place: str, stored: Settings | None, wanted: Settings) -> None:
    """Raise `UserError` if the index was filled with other settings."""
    if stored is not None and stored != wanted:
        pairs = zip(Settings._fields, stored, wanted, strict=True)
        differ = [
            f"{name} = {there} in the index, {here} in params.yaml" for name, there, here in pairs if there != here
        ]
        raise UserError(
            f"dedupe.index: {place} was filled with other settings",
            "; ".join(differ),
            "restore the settings of dedupe, or fill a new index",
        )


def make_duplicate_id_error(name: str, doc_id: str) -> UserError:
    """Return the error for a run in which an id occurs twice."""
    return UserError(
        f"dedupe.index: run {name} contains an id twice", doc_id, "run download or dedupe, which drop such copies"
    )


def make_empty_answer(n: int) -> SeenDocuments:
    """Return the answer for `n` documents of which none was seen."""
    return SeenDocuments(np.zeros(n, bool), np.zeros(n, bool), np.zeros(n), pa.nulls(n, pa.string()))
