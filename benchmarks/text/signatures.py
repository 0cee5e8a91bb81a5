"""MinHash signatures, text in: our kernel against datasketch with the same hash and the same permutations; the values are equal.

The peer makes a MinHash per document (`update_batch`); in the details `MinHash.bulk`, which copies one MinHash instead.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import datasketch
import numpy as np
import pyarrow as pa
import xxhash

from benchmarks.measure import Result, Row, Work, compare, measure_rate
from benchmarks.text.generated import make_random_texts
from pipeline.dedupe.minhash import shingles
from pipeline.dedupe.minhash import signatures as minhash
from pipeline.text import normalize

NGRAM_WORDS, N_PERMUTATIONS, SEED = 5, 128, 1


def run(*, n_docs: int = 500, n_words: int = 300) -> Result:
    """Return documents per second on one core."""
    texts = make_random_texts(random.Random(SEED), n_docs, n_words)
    permuted = minhash.draw_permutations(N_PERMUTATIONS, SEED)

    def ours() -> Any:
        words = normalize.split_words(normalize.fold(pa.array(texts)))
        return minhash.compute_signatures(shingles.shingle(words, NGRAM_WORDS), permuted)

    def peer() -> Any:
        return np.array([signature.hashvalues for signature in sign_by_update_batch(texts)])

    def details() -> list[Row]:
        return [{"variant": "MinHash.bulk", "documents/s": measure_rate(lambda: list(sign_by_bulk(texts)), n_docs)}]

    work = f"signatures of {n_docs} documents of {n_words} words, {NGRAM_WORDS}-grams, {N_PERMUTATIONS} permutations"
    name = "datasketch MinHash.update_batch, affine32, XXH64"
    return compare(Work(work, "documents/s", n_docs, name), ours, peer, details=details)


def sign_by_update_batch(texts: Iterable[str], n_permutations: int = N_PERMUTATIONS) -> Iterator[datasketch.MinHash]:
    """Yield datasketch's signature of each text, each from a MinHash of its own."""
    for text in texts:
        signature = datasketch.MinHash(n_permutations, SEED, hashfunc=get_low_half, scheme=minhash.SCHEME)
        signature.update_batch(make_byte_shingles(text))
        yield signature


def sign_by_bulk(texts: Iterable[str], n_permutations: int = N_PERMUTATIONS) -> Iterator[datasketch.MinHash]:
    """Yield datasketch's signature of each text, from copies of one MinHash."""
    sets = (make_byte_shingles(text) for text in texts)
    settings: dict[str, Any] = {"num_perm": n_permutations, "seed": SEED, "scheme": minhash.SCHEME}
    return datasketch.MinHash.generator(sets, hashfunc=get_low_half, **settings)


def make_byte_shingles(text: str) -> set[bytes]:
    """Return the 5-grams of generated text, which has no punctuation except a final period."""
    words = text.lower().rstrip(".").split()
    return {" ".join(words[i : i + NGRAM_WORDS]).encode() for i in range(len(words) - NGRAM_WORDS + 1)}


def get_low_half(gram: bytes) -> int:
    """Return the low 32 bits of XXH64, which the scheme affine32 expects."""
    return xxhash.xxh64_intdigest(gram) & 0xFFFFFFFF
