"""Asking an index of earlier runs: ours in a folder beside datasketch's MinHashLSH in memory, the same answers.

Both begin with the same signatures and shingles. The peer asks `MinHashLSH.query` for each document and verifies with Python sets.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import datasketch
import pyarrow as pa

from benchmarks.measure import Result, rates
from pipeline.seen.folder import FolderIndex
from pipeline.seen.runs import Settings, sketch_docs
from pipeline.tables import ShardWriter
from pipeline.text.sketches import Sketches

N_OLD, N_NEW, N_WORDS, MIN_JACCARD = 10_000, 2_000, 300, 0.8
SETTINGS = Settings(ngram_words=5, n_bands=14, n_rows=8, seed=1)
Answer = tuple[str | None, float]


def run() -> Result:
    """Documents asked about a second on one core; raises if one answer differs."""
    with tempfile.TemporaryDirectory() as folder:
        old, new = write_docs(Path(folder) / "old", N_OLD, 1.0), write_docs(Path(folder) / "new", N_NEW, 0.1)
        index, peer = FolderIndex(Path(folder) / "index"), Peer(list(sketch_docs(old, SETTINGS)))
        index.add("old", old, SETTINGS)
        parts, runs = list(sketch_docs(new, SETTINGS)), index.runs()

        def ours() -> list[Answer]:
            seen = [index.query(runs, part, SETTINGS, MIN_JACCARD) for part in parts]
            return [pair for part in seen for pair in zip(part.other_id.to_pylist(), part.similarity, strict=True)]

        assert ours() == peer.ask(parts)
        fast, slow = rates(ours, lambda: peer.ask(parts), N_NEW)
    work = f"{N_NEW} documents of {N_WORDS} words asked of {N_OLD}, 14 × 8 bands, verified by true Jaccard"
    return Result(work, "documents/s", fast, slow, "datasketch.MinHashLSH in memory and Python sets")


def write_docs(folder: Path, n: int, known_frac: float) -> Path:
    """Document i of every folder says the same but for its last words, for `known_frac` of them."""
    vocabulary = [f"w{i:x}" for i in range(5_000)]
    with ShardWriter(folder) as writer:
        for first in range(0, n, 1_000):
            rows = range(first, first + 1_000)
            seeds = [i if i % 10 < 10 * known_frac else N_OLD + i for i in rows]
            texts = [" ".join([*random.Random(seed).choices(vocabulary, k=N_WORDS - 5), folder.name]) for seed in seeds]
            empty = dict.fromkeys(("source", "locator", "title", "url", "licence"), [""] * len(rows))
            writer.write(pa.table({"id": [f"{folder.name}-{i}" for i in rows], "text": texts, **empty}))
    return folder


class Peer:
    """MinHashLSH over the old documents, and a set for each."""

    def __init__(self, parts: list[Sketches]) -> None:
        shape = (SETTINGS.n_bands, SETTINGS.n_rows)
        self.lsh, self.sets = (
            datasketch.MinHashLSH(num_perm=shape[0] * shape[1], params=shape),
            dict[Any, frozenset[int]](),
        )
        for part in parts:
            for row, name in enumerate(part.ids.to_pylist()):
                self.lsh.insert(name, lean(part.signatures[row]), check_duplication=False)
                self.sets[name] = row_of(part, row)

    def ask(self, parts: list[Sketches]) -> list[Answer]:
        answers: list[Answer] = []
        for part in parts:
            for row, signature in enumerate(part.signatures):
                names: list[Any] = self.lsh.query(lean(signature))
                alike = [(-jaccard(row_of(part, row), self.sets[name]), str(name)) for name in names]
                best = min((pair for pair in alike if -pair[0] >= MIN_JACCARD), default=None)
                answers.append((best[1], -best[0]) if best else (None, 0.0))
        return answers


def lean(signature: Any) -> datasketch.LeanMinHash:
    return datasketch.LeanMinHash(seed=SETTINGS.seed, hashvalues=signature, scheme=SETTINGS.scheme)


def row_of(part: Sketches, row: int) -> frozenset[int]:
    """The shingles of one document: the peer makes a set only where there is a candidate."""
    return frozenset(part.shingles.hashes[part.shingles.offsets[row] : part.shingles.offsets[row + 1]].tolist())


def jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    return len(left & right) / len(left | right)
