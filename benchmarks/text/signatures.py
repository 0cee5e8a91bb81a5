"""MinHash signatures, text in: our kernel beside datasketch with the same hash and the same permutations, equal values."""

from __future__ import annotations

import random
import time
from typing import Any

import datasketch
import numpy as np
import pyarrow as pa
import xxhash

from benchmarks.measure import Result, rates
from pipeline.text import minhash, normalize, shingles

N_DOCS, N_WORDS, N_GRAM, N_PERMUTATIONS, SEED = 500, 300, 5, 128, 1


def texts() -> list[str]:
    """Documents of 300 words from a vocabulary of 5,000."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)]
    return [" ".join(rng.choices(words, k=N_WORDS)) for _ in range(N_DOCS)]


def run() -> Result:
    """Documents a second on one core; raises if one value differs."""
    documents = texts()
    permuted = minhash.permutations(N_PERMUTATIONS, SEED)

    def ours() -> Any:
        words = normalize.split_words(normalize.fold(pa.array(documents)))
        return minhash.signatures(shingles.shingle(words, N_GRAM), permuted)

    def peer() -> Any:
        return np.array([reference(text) for text in documents])

    def bulk() -> Any:
        grams = (grams_of(text) for text in documents)
        made = datasketch.MinHash.bulk(grams, num_perm=N_PERMUTATIONS, seed=SEED, hashfunc=low_half, scheme="affine32")
        return np.array([signature.hashvalues for signature in made])

    assert np.array_equal(ours(), peer())
    assert np.array_equal(ours(), bulk())
    fast, slow = rates(ours, peer, N_DOCS, clock=time.process_time)
    _, bulk_rate = rates(int, bulk, N_DOCS, clock=time.process_time)
    work = (
        f"signatures of {N_DOCS} documents of {N_WORDS} words, {N_GRAM}-grams, {N_PERMUTATIONS} permutations, one core "
        f"(by MinHash.bulk, which copies one MinHash: {bulk_rate:,.0f} documents/s)"
    )
    return Result(work, "documents/s", fast, slow, "datasketch.MinHash.update_batch, affine32, XXH64")


def reference(text: str) -> Any:
    signature = datasketch.MinHash(N_PERMUTATIONS, seed=SEED, hashfunc=low_half, scheme="affine32")
    signature.update_batch(grams_of(text))
    return signature.hashvalues


def grams_of(text: str) -> set[bytes]:
    words = text.lower().split()
    return {" ".join(words[i : i + N_GRAM]).encode() for i in range(len(words) - N_GRAM + 1)}


def low_half(gram: bytes) -> int:
    """affine32 takes hashes of 32 bits."""
    return xxhash.xxh64_intdigest(gram) & 0xFFFFFFFF
