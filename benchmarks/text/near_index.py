"""Query an index of earlier runs: ours in a folder against datasketch's MinHashLSH in memory; the answers are equal.

Both start from the same signatures and shingles. The peer calls `MinHashLSH.query` per document and verifies with Python sets.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import datasketch

from benchmarks.measure import Result, Work, compare
from benchmarks.text.generated import make_docs_table, make_random_words
from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.seen.index_folder import FolderIndex
from pipeline.dedupe.seen.runs import Settings, sketch_docs
from pipeline.storage.tables import ShardWriter

MIN_JACCARD = 0.8
SETTINGS = Settings(ngram_words=5, n_bands=14, n_rows=8, seed=1)
Answer = tuple[str | None, float]


def run(*, n_docs: int = 10_000, n_queries: int = 2_000, n_words: int = 300) -> Result:
    """Return queries per second on one core."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = write_docs(folder / "old", n_docs, n_words, known_frac=1.0, first_new=n_docs)
        new = write_docs(folder / "new", n_queries, n_words, known_frac=0.1, first_new=n_docs)
        index, datasketch_index = FolderIndex(folder / "index"), DatasketchIndex(list(sketch_docs(old, SETTINGS)))
        index.add("old", old, SETTINGS)
        parts, runs = list(sketch_docs(new, SETTINGS)), index.list_runs()

        def ours() -> list[Answer]:
            seen = [index.query(runs, part, SETTINGS, MIN_JACCARD) for part in parts]
            return [pair for part in seen for pair in zip(part.other_id.to_pylist(), part.similarity, strict=True)]

        def peer() -> list[Answer]:
            return datasketch_index.query(parts)

        work = f"{n_queries} documents of {n_words} words looked up among {n_docs}, 14 × 8 bands, true Jaccard verified"
        return compare(Work(work, "documents/s", n_queries, "datasketch MinHashLSH and Python sets"), ours, peer)


def write_docs(folder: Path, n_docs: int, n_words: int, known_frac: float, first_new: int) -> Path:
    """Write documents; for `known_frac` of them, document i has the same words in every folder except for the last one."""
    vocabulary = make_random_words(random.Random(1))
    seeds = [i if i % 10 < 10 * known_frac else first_new + i for i in range(n_docs)]
    texts = [" ".join([*random.Random(seed).choices(vocabulary, k=n_words - 5), folder.name]) for seed in seeds]
    with ShardWriter(folder) as writer:
        writer.write(make_docs_table(texts, prefix=f"{folder.name}-"))
    return folder


class DatasketchIndex:
    """Hold a MinHashLSH over the old documents, and a set of shingles for each of them."""

    def __init__(self, parts: list[Sketches]) -> None:
        shape = (SETTINGS.n_bands, SETTINGS.n_rows)
        self.lsh = datasketch.MinHashLSH(num_perm=shape[0] * shape[1], params=shape)
        self.sets: dict[Any, frozenset[int]] = {}
        for part in parts:
            for row, name in enumerate(part.ids.to_pylist()):
                self.lsh.insert(name, make_lean_minhash(part.signatures[row]), check_duplication=False)
                self.sets[name] = make_shingle_set(part, row)

    def query(self, parts: list[Sketches]) -> list[Answer]:
        """Return the most similar old document for each row, and its similarity."""
        answers: list[Answer] = []
        for part in parts:
            for row, signature in enumerate(part.signatures):
                names: list[Any] = self.lsh.query(make_lean_minhash(signature))
                candidates = [
                    (-compute_jaccard(make_shingle_set(part, row), self.sets[name]), str(name)) for name in names
                ]
                best = min((pair for pair in candidates if -pair[0] >= MIN_JACCARD), default=None)
                answers.append((best[1], -best[0]) if best else (None, 0.0))
        return answers


def make_lean_minhash(signature: Any) -> datasketch.LeanMinHash:
    """Return datasketch's form of one of our signatures."""
    return datasketch.LeanMinHash(seed=SETTINGS.seed, hashvalues=signature, scheme=SETTINGS.scheme)


def make_shingle_set(part: Sketches, row: int) -> frozenset[int]:
    """Return the shingles of one document."""
    return frozenset(part.shingles.hashes[part.shingles.offsets[row] : part.shingles.offsets[row + 1]].tolist())


def compute_jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    """Return the Jaccard similarity of two sets."""
    return len(left & right) / len(left | right)
