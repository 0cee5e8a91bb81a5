"""MinHash signatures, text in: our kernel beside datasketch with the same hash and the same permutations, equal values."""

from __future__ import annotations

import random
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
        return minhash.signatures(shingles.as_sets(shingles.shingle(words, N_GRAM)), permuted)

    def peer() -> Any:
        return np.array([reference(text) for text in documents])

    assert np.array_equal(ours(), peer())
    fast, slow = rates(ours, peer, N_DOCS)
    work = f"signatures of {N_DOCS} documents of {N_WORDS} words, {N_GRAM}-grams, {N_PERMUTATIONS} permutations"
    return Result(work, "documents/s", fast, slow, "datasketch.MinHash, affine32, XXH64")


def reference(text: str) -> Any:
    words = text.lower().split()
    grams = {" ".join(words[i : i + N_GRAM]).encode() for i in range(len(words) - N_GRAM + 1)}
    signature = datasketch.MinHash(N_PERMUTATIONS, seed=SEED, hashfunc=low_half, scheme="affine32")
    signature.update_batch(grams)
    return signature.hashvalues


def low_half(gram: bytes) -> int:
    """affine32 takes hashes of 32 bits."""
    return xxhash.xxh64_intdigest(gram) & 0xFFFFFFFF
