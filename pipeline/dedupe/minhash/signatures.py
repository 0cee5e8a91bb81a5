"""Compute MinHash signatures and LSH band keys of shingle sets, bit for bit as datasketch does.

In: hashed shingles, flat with offsets. Out: one row of `n_permutations` uint32 per document, then one uint64 per band.
The scheme is datasketch 2.0's `affine32`: the low 32 bits of a shingle's hash pass the finalizer of MurmurHash3, then each
permutation is `a · h + b` modulo 2³² with `a` odd; the signature keeps the smallest. A document without shingles gets the
largest value everywhere, as datasketch's empty MinHash does. Hash values do not identify their scheme: store `SCHEME` with them.

A band key is XXH64 of the band's rows, so two documents share a key if they share the band (or collide, once in 2⁶⁴).
Memory: the signatures of one batch. Time: n_permutations operations per shingle, sixteen at once where the CPU supports it.

Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3; settings from Penedo et al. 2024 (FineWeb).
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from pipeline.dedupe.minhash.shingles import Shingles
from pipeline.text.columns import Hashes, Offsets
from pipeline.text.hashing import xxh64

SCHEME = "affine32"
LANES = 64  # shingles are padded to a multiple of this: four vectors of sixteen

Signatures = npt.NDArray[np.uint32]


def draw_permutations(n_permutations: int, seed: int) -> Signatures:
    """Return two rows, `a` (odd) and `b`, as datasketch draws them from the same seed."""
    generator = np.random.RandomState(seed)
    a = generator.randint(0, 1 << 31, n_permutations, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = generator.randint(0, 1 << 32, n_permutations, dtype=np.uint32)
    return np.array([a, b])


def compute_signatures(shingles: Shingles, permuted: Signatures) -> Signatures:
    """Return the signatures, one row per document."""
    return _compute_signatures(shingles.hashes, shingles.offsets, permuted[0], permuted[1])


def compute_band_keys(signed: Signatures, n_bands: int, n_rows: int) -> Hashes:
    """Return the band keys: one row per document, one key per band of `n_rows` adjacent values."""
    assert signed.shape[1] == n_bands * n_rows, f"{signed.shape[1]} values for {n_bands} bands of {n_rows} rows"
    flat = np.ascontiguousarray(signed).view(np.uint8).reshape(-1)
    return _compute_band_keys(flat, n_rows * signed.itemsize).reshape(len(signed), n_bands)


@numba.njit(cache=True, nogil=True)
def _compute_signatures(
    hashes: Hashes, offsets: Offsets, a: Signatures, b: Signatures
) -> Signatures:  # pragma: no cover (compiled)
    n_rows, width = len(offsets) - 1, len(a)
    out = np.empty((n_rows, width), np.uint32)
    longest = np.int64(0)
    for row in range(n_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    mixed = np.empty(longest + LANES, np.uint32)
    for row in range(n_rows):
        first = offsets[row]
        n = offsets[row + 1] - first
        if n == 0:
            out[row, :] = np.uint32(0xFFFFFFFF)
            continue
        for i in range(n):
            h = np.uint32(hashes[first + i] & np.uint64(0xFFFFFFFF))
            h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            mixed[i] = np.uint32(h ^ (h >> np.uint32(16)))
        padded = (n + LANES - 1) // LANES * LANES
        mixed[n:padded] = mixed[n - 1]  # repeats do not change the minimum, and the loop below needs no tail
        for k in range(width):  # permutations in the outer loop: the minimum stays in registers
            smallest = np.uint32(0xFFFFFFFF)
            for i in range(padded):
                smallest = min(smallest, np.uint32(np.uint32(a[k] * mixed[i]) + b[k]))
            out[row, k] = smallest
    return out


@numba.njit(cache=True, nogil=True)
def _compute_band_keys(data: npt.NDArray[np.uint8], band_bytes: int) -> Hashes:  # pragma: no cover (compiled)
    out = np.empty(len(data) // band_bytes, np.uint64)
    for band in range(len(out)):
        out[band] = xxh64(data, band * band_bytes, (band + 1) * band_bytes)
    return out
