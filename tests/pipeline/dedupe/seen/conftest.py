"""Write small runs of documents and query an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash.sketch import sketch
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.seen.index_folder import FolderIndex
from pipeline.dedupe.seen.runs import SeenDocuments, Settings
from pipeline.storage.tables import DOCS, ShardWriter

PARAMS = Dedupe(seed=1, ngram_words=2, n_bands=32, n_rows=1, min_jaccard=0.5, source_priority=[])
SETTINGS = Settings(ngram_words=2, n_bands=32, n_rows=1, seed=1)
Docs = Sequence[tuple[str, str]]


def write_run(folder: Path, docs: Docs) -> Path:
    """Write documents with these ids and texts as a stage does; return their folder."""
    empty = dict.fromkeys(("source", "locator", "title", "url", "license"), "")
    rows = [{"id": doc_id, "text": text, **empty} for doc_id, text in docs]
    with ShardWriter(folder, DOCS, shard_bytes=200) as writer:
        for first in range(0, len(rows), 3):  # several shards, so several batches
            writer.write(pa.Table.from_pylist(rows[first : first + 3], schema=DOCS))
    return folder


def ask(
    index: FolderIndex, docs: Docs, settings: Settings = SETTINGS, min_jaccard: float = 0.5, runs: Any = None
) -> SeenDocuments:
    """Query an index for documents, among all of its runs if `runs` is None."""
    permuted = minhash.draw_permutations(settings.n_bands * settings.n_rows, settings.seed)
    ids, texts = (pa.array([doc[i] for doc in docs], pa.string()) for i in (0, 1))
    queried = index.list_runs() if runs is None else runs
    return index.query(queried, sketch(ids, texts, settings.ngram_words, permuted), settings, min_jaccard)


def answers(seen: SeenDocuments) -> list[tuple[str | None, bool, float]]:
    """Return (id of the earlier document, whether its text is equal, similarity) for each document."""
    columns = seen.other_id.to_pylist(), seen.is_exact.tolist(), seen.similarity.tolist()
    assert [name is not None for name in columns[0]] == seen.is_seen.tolist()
    return list(zip(*columns, strict=True))


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the folder of an index that contains nothing yet."""
    return str(tmp_path / "index")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[str, Docs], Path]:
    """Return a function `make_run(name, docs)` that writes a folder of documents."""
    return lambda name, docs: write_run(tmp_path / "runs" / name, docs)
