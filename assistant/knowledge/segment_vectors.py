"""Give the segments of a collection their vectors: made by the embedder when they are first needed, kept beside the segment.

    segments/000001/vectors-3f2a…/     named after the embedder: another embedder means other vectors, and these are deleted

In: a collection's segments and the embedder of the champion. Out: a store per segment, exact, FAISS or Milvus as the manifest
says; by default exact up to `MAX_EXACT` sections, then FAISS. A store that can't be opened or does not answer gives none, with a
notice: the search goes on with names and BM25. Time: 0.2 ms a section (exact).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.knowledge.collection import Collection
from model.retrieval.embedder import Embedder
from model.retrieval.reranker import Reranker
from model.retrieval.reranking.unit_parts import cut_units
from model.retrieval.segment import Segment
from model.retrieval.stores.vectors import ExactStore, VectorStore

MAX_EXACT = 500_000  # vectors of 256 numbers: 10 CPU-ms a search; FAISS takes 1
BATCH = 4_096
PREFIX = "vectors-"
EXACT, FAISS = "exact", "faiss"
UNDROPPED = "undropped.json"  # collections of a Milvus server that could not be dropped yet

Say = Callable[[str], None]


@dataclass(frozen=True)
class LoadedEmbed:
    """The embedder and the reranker of one folder of the stage embed. `id` changes with the embedder's weights."""

    embedder: Embedder
    reranker: Reranker
    id: str


def load_embed(folder: Path) -> LoadedEmbed:
    """Load a folder of the stage embed. Raises: ValueError for one that is missing, damaged or of an earlier version."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("embedder*")):
        digest.update(path.read_bytes())
    return LoadedEmbed(Embedder.load(folder), Reranker.load(folder), digest.hexdigest()[:12])


def check_store(store: str) -> None:
    """Raise ValueError for what is no store."""
    if store not in ("", EXACT, FAISS) and "://" not in store and not store.endswith(".db"):
        raise ValueError(f"--store: unknown store; found {store!r}; use exact, faiss, or the URI of a Milvus server")


def open_vectors(
    collection: Collection, segments: Sequence[Segment], embed: LoadedEmbed | None, say: Say
) -> list[VectorStore | None]:
    """Return a store for each segment, made now if there is none of this embedder; None where there can't be one."""
    if embed is None:
        return [None] * len(segments)
    kind = collection.manifest.store or (EXACT if collection.manifest.n_sections <= MAX_EXACT else FAISS)
    missing = [segment for segment in segments if not (segment.folder / f"{PREFIX}{embed.id}").is_dir()]
    if missing:
        is_changed = any(list(segment.folder.glob(f"{PREFIX}*")) for segment in missing)
        why = "the embedder has changed" if is_changed else "they have none yet"
        n_sections = sum(segment.sections.n_units for segment in missing)
        say(f"collection {collection.name}: making vectors of {n_sections:,} sections, because {why}")
    stores: list[VectorStore | None] = []
    for segment in segments:
        folder = segment.folder / f"{PREFIX}{embed.id}"
        try:
            if not folder.is_dir():
                _make_vectors(collection.name, segment, embed, kind, folder)
            stores.append(_open_store(folder, embed.embedder.width))
        except (ValueError, OSError) as error:
            say(f"collection {collection.name}: {error}; searching it by names and words only")
            stores.append(None)
    return stores


def _make_vectors(collection: str, segment: Segment, embed: LoadedEmbed, kind: str, folder: Path) -> None:
    """Embed the units of a segment and put the complete store in its place; then delete those of other embedders."""
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=segment.folder))
    try:
        store = _make_store(kind, f"minigpt_{collection}_{segment.name}_{embed.id}", embed.embedder.width)
        for first, vectors in _embed_units(segment, embed.embedder):
            store.add(np.arange(first, first + len(vectors)), vectors)
        store.snapshot(partial)
        if not folder.is_dir():  # another process may have been faster
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in segment.folder.glob(f"{PREFIX}*"):
        if old != folder:
            drop_vectors(old)
            shutil.rmtree(old)


def _embed_units(segment: Segment, embedder: Embedder) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for first in range(0, segment.sections.n_units, BATCH):
        rows = range(first, min(first + BATCH, segment.sections.n_units))
        yield first, embedder.embed_units(cut_units(segment, rows))


def _make_store(kind: str, name: str, width: int) -> VectorStore:
    if kind == EXACT:
        return ExactStore(width)
    if kind == FAISS:
        from model.retrieval.stores.faiss_vectors import FaissStore

        return FaissStore(width)
    from model.retrieval.stores.milvus_vectors import MilvusStore

    return MilvusStore(kind, "".join(character if character.isalnum() else "_" for character in name), width)


def _open_store(folder: Path, width: int) -> VectorStore:
    from model.retrieval.stores import faiss_vectors, milvus_vectors

    if (folder / milvus_vectors.FILE).is_file():
        return milvus_vectors.MilvusStore.open(folder, width)
    if (folder / faiss_vectors.GRAPH).is_file():
        return faiss_vectors.FaissStore.open(folder, width)
    return ExactStore.open(folder, width)


def drop_vectors(folder: Path) -> None:
    """Delete what a store keeps outside its folder. Raises: ValueError if a server does not answer."""
    from model.retrieval.stores import milvus_vectors

    if (folder / milvus_vectors.FILE).is_file():
        about = json.loads((folder / milvus_vectors.FILE).read_text(encoding="utf-8"))
        store = milvus_vectors.MilvusStore(about["uri"], about["collection"], int(about["width"]))
        store.drop()
        store.close()


def drop_all_vectors(collection: Path, segment: Path) -> None:
    """Delete what the stores of a segment keep on servers; what can't be deleted now is noted and tried again later."""
    pending = _read_pending(collection)
    for folder in segment.glob(f"{PREFIX}*"):
        from model.retrieval.stores import milvus_vectors

        if (folder / milvus_vectors.FILE).is_file():
            pending.append(json.loads((folder / milvus_vectors.FILE).read_text(encoding="utf-8")))
    if pending:
        _write_pending(collection, [about for about in pending if not _is_dropped(about)])


def _is_dropped(about: dict[str, str]) -> bool:
    from model.retrieval.stores.milvus_vectors import MilvusStore

    store = MilvusStore(about["uri"], about["collection"], int(about["width"]))
    try:
        store.drop()
    except ValueError:
        return False
    store.close()
    return True


def _read_pending(collection: Path) -> list[dict[str, str]]:
    path = collection / UNDROPPED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _write_pending(collection: Path, pending: Sequence[dict[str, str]]) -> None:
    path = collection / UNDROPPED
    if not pending:
        path.unlink(missing_ok=True)
        return
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(list(pending)), encoding="utf-8")
    partial.replace(path)
