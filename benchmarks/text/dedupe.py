"""Deduplication, documents in to surviving documents out, on one core: ours against datasketch's MinHash and MinHashLSH.

The peer makes a MinHash per document (`update_batch`; the same words, permutations and hash function), queries and fills an LSH
with the same bands, joins matches by union-find and keeps the best document of each cluster; it verifies nothing. The details
show the peer with `MinHash.bulk`, the loop of datasketch's manual (`update`, SHA-1), and our whole stage from Parquet to
Parquet.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasketch

from benchmarks.measure import Result, Row, Work, compare, measure_rate
from benchmarks.text.generated import make_docs_table, make_random_words
from benchmarks.text.signatures import make_byte_shingles, sign_by_bulk, sign_by_update_batch
from pipeline.dedupe import sketches
from pipeline.dedupe import stage as dedupe
from pipeline.dedupe.params import Dedupe
from pipeline.storage.tables import DOCS, ShardWriter
from tests.pipeline.dedupe.oracle import deduplicate

SEED = 1
PARAMS = Dedupe(seed=SEED, ngram_words=5, n_bands=16, n_rows=8, min_jaccard=0.8, source_priority=["a"])
SETTINGS = PARAMS.model_dump(include=sketches.SETTINGS | {"min_jaccard"})
N_PERMUTATIONS = PARAMS.n_bands * PARAMS.n_rows
MANUAL_DOCS = 400  # for the manual's loop, which is slow


def run(*, n_docs: int = 10_000, n_words: int = 300) -> Result:
    """Return documents per second. Raises: `UserError` if we drop what the peer keeps, or keep over 1 % of what it drops."""
    texts = make_texts(n_docs, n_words)
    table = make_docs_table(texts)

    def ours() -> set[int]:
        return set(deduplicate(table, **SETTINGS).list_kept_rows().tolist())

    def peer() -> set[int]:
        return deduplicate_with_datasketch(texts, sign_by_update_batch)

    def details() -> list[Row]:
        rates = {
            "peer with MinHash.bulk": measure_rate(lambda: deduplicate_with_datasketch(texts, sign_by_bulk), n_docs, 2)
        }
        some = texts[:MANUAL_DOCS]
        rates["peer with update and SHA-1"] = measure_rate(
            lambda: deduplicate_with_datasketch(some, sign_by_update), len(some), 1
        )
        with tempfile.TemporaryDirectory() as folder:
            with ShardWriter(Path(folder) / "docs", DOCS) as writer:
                writer.write(table)
            rates["our stage, Parquet to Parquet"] = measure_rate(lambda: run_stage(Path(folder)), n_docs)
        return [{"variant": name, "documents/s": value} for name, value in rates.items()]

    work = f"{n_docs} documents of {n_words} words in, survivors out; 5-grams, {N_PERMUTATIONS} permutations"
    name = "datasketch MinHash.update_batch, affine32, XXH64 + MinHashLSH + union-find"
    return compare(Work(work, "documents/s", n_docs, name), ours, peer, is_same=is_consistent, details=details)


def is_consistent(ours: set[int], peer: set[int]) -> bool:
    """Return whether the peer drops all that we drop, and hardly more: it joins what shares a band, similar or not."""
    return peer <= ours and len(ours - peer) <= len(ours) // 100


def make_texts(n_docs: int, n_words: int) -> list[str]:
    """Make documents; one in ten is an earlier one with two words changed, one in twenty a copy of an earlier one."""
    rng = random.Random(SEED)
    words, made = make_random_words(rng), list[list[str]]()
    for i in range(n_docs):
        if i % 10 == 9:
            near = list(rng.choice(made))
            for _ in range(2):
                near[rng.randrange(n_words)] = rng.choice(words)
            made.append(near)
        else:
            made.append(rng.choice(made) if i % 20 == 15 else rng.choices(words, k=n_words))
    return [" ".join(document).capitalize() + "." for document in made]


def run_stage(folder: Path) -> None:
    """Run the stage on the documents in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        dedupe.run(PARAMS, docs=folder / "docs", scratch=Path(out) / "scratch", out=Path(out))


def deduplicate_with_datasketch(
    texts: list[str], sign: Callable[[Iterable[str]], Iterator[datasketch.MinHash]]
) -> set[int]:
    """Return the best row (longest, then first) of each cluster."""
    lsh = datasketch.MinHashLSH(num_perm=N_PERMUTATIONS, params=(PARAMS.n_bands, PARAMS.n_rows))
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, signature in enumerate(sign(texts)):
        for other in lsh.query(signature):
            a, b = root(i), root(int(str(other)))
            parent[a], parent[b] = min(a, b), min(a, b)
        lsh.insert(i, signature)
    kept: dict[int, int] = {}
    for i in sorted(range(len(texts)), key=lambda i: (-len(texts[i].encode()), i)):
        kept.setdefault(root(i), i)
    return set(kept.values())


def sign_by_update(texts: Iterable[str]) -> Iterator[datasketch.MinHash]:
    """Yield signatures as datasketch's manual begins: one `update` per shingle, SHA-1."""
    for text in texts:
        signature = datasketch.MinHash(num_perm=N_PERMUTATIONS)
        for shingle in make_byte_shingles(text):
            signature.update(shingle)
        yield signature
