"""Deduplication, documents in to documents out, on one core: ours beside datasketch's MinHash and MinHashLSH.

Both get the same texts and give back which of them stay. The peer makes a MinHash for each document (`update_batch`; the same
words, permutations and hash function), asks and fills an LSH with the same bands, joins what it finds by union-find, and
keeps the best document of each cluster; it verifies nothing. Beside it, in `work`: the peer with `MinHash.bulk`, which copies one
MinHash instead of making each; datasketch's loop as its manual begins (`update`, SHA-1); and our whole stage, Parquet to Parquet.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasketch
import pyarrow as pa

from benchmarks.measure import Result, rates
from benchmarks.signatures import low_half
from pipeline import dedupe, sketches
from pipeline.params import Dedupe
from pipeline.tables import DOCS, ShardWriter
from pipeline.text.in_memory import deduplicate
from pipeline.text.minhash import SCHEME

N_DOCS, N_WORDS, SEED = 10_000, 300, 1
PARAMS = Dedupe(seed=SEED, ngram_words=5, n_bands=16, n_rows=8, min_jaccard=0.8, source_priority=["a"])
N_PERMUTATIONS = PARAMS.n_bands * PARAMS.n_rows
N_SLOW = 400  # documents for the manual's loop
CLOCK = time.process_time


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
    """Documents a second on one core. Raises if we drop what the peer does not find near, or keep what is a copy."""
    documents = texts()
    with one_core():
        check(set(ours(documents)), set(by_datasketch(documents, one_by_one)))
        fast, slow = rates(lambda: ours(documents), lambda: by_datasketch(documents, one_by_one), N_DOCS, 3, CLOCK)
        _, bulk_rate = rates(int, lambda: by_datasketch(documents, bulk), N_DOCS, 2, CLOCK)
        _, manual_rate = rates(int, lambda: by_datasketch(documents[:N_SLOW], manual), N_SLOW, 1, CLOCK)
        with tempfile.TemporaryDirectory() as name:
            table = as_table(documents)
            with ShardWriter(Path(name) / "docs", DOCS) as writer:
                writer.write(table)
            stage_rate, _ = rates(lambda: stage(Path(name)), int, N_DOCS, 3, CLOCK)
    work = (
        f"{N_DOCS} documents of {N_WORDS} words in, those that stay out; 5-grams, {N_PERMUTATIONS} permutations, one core "
        f"(documents/s of the others: peer by MinHash.bulk {bulk_rate:,.0f}, peer by update and SHA-1 {manual_rate:,.0f}, "
        f"our stage from Parquet to Parquet {stage_rate:,.0f})"
    )
    return Result(
        work, "documents/s", fast, slow, "datasketch MinHash.update_batch, affine32, XXH64 + MinHashLSH + union-find"
    )


def as_table(documents: list[str]) -> pa.Table:
    columns: dict[str, Any] = {field: pa.repeat("", len(documents)) for field in DOCS.names}
    return pa.table(columns | {"id": [f"{i:06d}" for i in range(len(documents))], "text": documents})


def ours(documents: list[str]) -> list[int]:
    """Rows of those that stay."""
    return (
        deduplicate(as_table(documents), **PARAMS.model_dump(include=sketches.SETTINGS | {"min_jaccard"}))
        .kept_rows()
        .tolist()
    )


def stage(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        dedupe.run(PARAMS, docs=folder / "docs", scratch=Path(out) / "scratch", out=Path(out))


@contextmanager
def one_core() -> Generator[None]:
    """No workers, and one thread for Arrow."""
    before, threads = os.environ.get("MINIGPT_ENGINE"), (pa.cpu_count(), pa.io_thread_count())
    os.environ["MINIGPT_ENGINE"] = "serial"
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        pa.set_cpu_count(threads[0])
        os.environ.pop("MINIGPT_ENGINE") if before is None else os.environ.__setitem__("MINIGPT_ENGINE", before)


def by_datasketch(documents: list[str], signatures: Callable[[list[str]], Iterable[Any]]) -> list[int]:
    """Rows of the best (longest, then first) of each cluster."""
    lsh = datasketch.MinHashLSH(num_perm=N_PERMUTATIONS, params=(PARAMS.n_bands, PARAMS.n_rows))
    parent = list(range(len(documents)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, signature in enumerate(signatures(documents)):
        for other in lsh.query(signature):
            a, b = root(i), root(int(str(other)))
            parent[a], parent[b] = min(a, b), min(a, b)
        lsh.insert(i, signature)
    best = sorted(range(len(documents)), key=lambda i: (-len(documents[i].encode()), i))
    kept: dict[int, int] = {}
    for i in best:
        kept.setdefault(root(i), i)
    return sorted(kept.values())


def grams(text: str) -> set[bytes]:
    """The same words as ours on these texts, which have no punctuation but the last full stop."""
    words = text.lower().rstrip(".").split()
    return {" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)}


def one_by_one(documents: list[str]) -> Iterator[Any]:
    for text in documents:
        signature = datasketch.MinHash(N_PERMUTATIONS, SEED, hashfunc=low_half, scheme=SCHEME)
        signature.update_batch(grams(text))
        yield signature


def bulk(documents: list[str]) -> Iterator[Any]:
    shingles = (grams(text) for text in documents)
    return datasketch.MinHash.generator(shingles, num_perm=N_PERMUTATIONS, seed=SEED, hashfunc=low_half, scheme=SCHEME)


def manual(documents: list[str]) -> Iterator[Any]:
    """As datasketch's manual begins."""
    for text in documents:
        signature = datasketch.MinHash(num_perm=N_PERMUTATIONS)
        for gram in grams(text):
            signature.update(gram)
        yield signature


def check(ours: set[int], peer: set[int]) -> None:
    """The peer joins whatever shares a band, alike or not: all that we drop it drops, and hardly anything more."""
    assert peer <= ours, f"{len(peer - ours)} documents dropped that the peer keeps"
    assert len(ours - peer) <= N_DOCS // 100, f"{len(ours - peer)} documents kept that the peer drops"
