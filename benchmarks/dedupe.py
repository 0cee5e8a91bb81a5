"""Deduplication, documents in to documents out, on one core: our stage beside datasketch's MinHash and MinHashLSH.

Both read the same Parquet shards and write the documents that stay. The peer makes one MinHash a document by datasketch's own
bulk method (same normalised words, same permutations, same hash function), asks and fills its LSH with the same bands, joins
what it finds by union-find, and keeps the best document of each cluster; it verifies nothing. A second peer, in `work`, uses
datasketch as its manual shows it: `update` for each shingle, SHA-1.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasketch
import numpy as np
import pyarrow as pa

from benchmarks.measure import Result, rates
from benchmarks.signatures import low_half
from pipeline import dedupe
from pipeline.params import Dedupe
from pipeline.tables import DOCS, ShardWriter, copy_docs, read_docs, shard_paths
from pipeline.text.minhash import SCHEME

N_DOCS, N_WORDS, SEED = 10_000, 300, 1
PARAMS = Dedupe(seed=SEED, ngram_words=5, n_bands=16, n_rows=8, min_jaccard=0.8, source_priority=["a"])
N_PERMUTATIONS = PARAMS.n_bands * PARAMS.n_rows
N_SLOW = 400  # documents for the manual's loop


def texts() -> list[str]:
    """Documents of 300 words; one in ten is an earlier one with two words changed, one in twenty a copy of one."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)]
    made: list[list[str]] = []
    for i in range(N_DOCS):
        if i % 10 == 9:
            near = list(rng.choice(made))
            for _ in range(2):
                near[rng.randrange(N_WORDS)] = rng.choice(words)
            made.append(near)
        else:
            made.append(rng.choice(made) if i % 20 == 15 else rng.choices(words, k=N_WORDS))
    return [" ".join(document).capitalize() + "." for document in made]


def run() -> Result:
    """Documents a second on one core. Raises if we dropped what the peer does not find near, or kept what is a copy."""
    with tempfile.TemporaryDirectory() as name, one_core():
        folder = Path(name)
        columns: dict[str, Any] = {field: pa.repeat("", N_DOCS) for field in DOCS.names}
        columns |= {"id": [f"{i:06d}" for i in range(N_DOCS)], "text": texts()}
        with ShardWriter(folder / "docs", DOCS) as writer:
            writer.write(pa.table(columns))
        ours = fresh(folder, lambda docs, out: dedupe.run(PARAMS, docs=docs, scratch=out / "scratch", out=out))
        peer = fresh(folder, lambda docs, out: copy_docs(shard_paths(docs), by_datasketch(docs, bulk), out))
        check(ours(), peer())
        fast, slow = rates(ours, peer, N_DOCS, clock=time.process_time)
        _, slowest = rates(
            lambda: None, lambda: manual(read_docs(folder / "docs")["text"].to_pylist()), N_SLOW, 1, time.process_time
        )
    work = (
        f"{N_DOCS} documents of {N_WORDS} words, Parquet in to Parquet out, 5-grams, {N_PERMUTATIONS} permutations, one core "
        f"(signatures by the manual's loop alone: {slowest:,.0f} documents/s)"
    )
    return Result(work, "documents/s", fast, slow, "datasketch MinHash.bulk, affine32, XXH64 + MinHashLSH + union-find")


@contextmanager
def one_core() -> Iterator[None]:
    """No workers, and one thread for Arrow."""
    before, threads = os.environ.get("MINIGPT_ENGINE"), (pa.cpu_count(), pa.io_thread_count())
    os.environ["MINIGPT_ENGINE"] = "serial"
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        pa.set_cpu_count(threads[0])
        os.environ.pop("MINIGPT_ENGINE") if before is None else os.environ.__setitem__("MINIGPT_ENGINE", before)


def fresh(folder: Path, work: Callable[[Path, Path], object]) -> Callable[[], set[str]]:
    """Runs it into an empty folder and says which documents stayed."""

    def once() -> set[str]:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            work(folder / "docs", Path(out))
            return set(read_docs(Path(out), ["id"])["id"].to_pylist())

    return once


def by_datasketch(docs: Path, signatures: Callable[[list[str]], list[Any]]) -> Any:
    """One Boolean a document: is it the best (longest, then first) of its cluster?"""
    table = read_docs(docs, ["text"])
    documents = table["text"].to_pylist()
    lsh = datasketch.MinHashLSH(num_perm=N_PERMUTATIONS, params=(PARAMS.n_bands, PARAMS.n_rows))
    parent = list(range(len(documents)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, signature in enumerate(signatures(documents)):
        for other in lsh.query(signature):
            a, b = root(i), root(other)
            parent[a], parent[b] = min(a, b), min(a, b)
        lsh.insert(i, signature)
    best = sorted(range(len(documents)), key=lambda i: (-len(documents[i].encode()), i))
    is_kept, taken = np.zeros(len(documents), bool), set[int]()
    for i in best:
        is_kept[i] = root(i) not in taken
        taken.add(root(i))
    return is_kept


def grams(text: str) -> set[bytes]:
    """The same words as ours on these texts, which have no punctuation but the last full stop."""
    words = text.lower().rstrip(".").split()
    return {" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)}


def bulk(documents: list[str]) -> list[Any]:
    shingles = (grams(text) for text in documents)
    return datasketch.MinHash.bulk(shingles, num_perm=N_PERMUTATIONS, seed=SEED, hashfunc=low_half, scheme=SCHEME)


def manual(documents: list[str]) -> list[Any]:
    """As datasketch's manual begins."""
    made: list[Any] = []
    for text in documents[:N_SLOW]:
        signature = datasketch.MinHash(num_perm=N_PERMUTATIONS)
        for gram in grams(text):
            signature.update(gram)
        made.append(signature)
    return made


def check(ours: set[str], peer: set[str]) -> None:
    """The peer joins whatever shares a band, alike or not: all that we drop it drops, and hardly anything more."""
    assert peer <= ours, f"{len(peer - ours)} documents dropped that the peer keeps"
    assert len(ours - peer) <= N_DOCS // 100, f"{len(ours - peer)} documents kept that the peer drops"
