"""Represent documents as sets of hashed shingles, i.e. word n-grams.

In: a column of words (`normalize.split_words`). Out: 64-bit hashes, flat, with offsets. A document of fewer than n words has
no shingle: it can be an exact duplicate, never a near one. Memory: 8 bytes per word. Time: linear; n log n for the sets.

The hash of a shingle is XXH64 of its words joined by one space, which is a slice of the column of words. The probability that any
two different shingles of a million documents collide in 64 bits is 1 in 1,000: shared hashes are shared shingles.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from pipeline.text.columns import Bytes, Hashes, Offsets, Rows, to_utf8
from pipeline.text.hashing import make_block, xxh64_many


class Shingles(NamedTuple):
    """Hold shingles: document i owns `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Offsets


def shingle(words: pa.StringArray, ngram_words: int) -> Shingles:
    """Return every shingle of every row, in the order of the text."""
    data, offsets = to_utf8(words)
    return Shingles(*_shingle(data, offsets, ngram_words))


def make_sets(shingles: Shingles) -> Shingles:
    """Return the rows as sets: distinct hashes, sorted."""
    hashes = shingles.hashes.copy()
    for start, stop in pairwise(shingles.offsets.tolist()):
        hashes[start:stop].sort()  # 2 µs for a row of 300 hashes; one sort of all rows by two keys takes 36 µs per row
    is_new = np.diff(hashes, prepend=np.uint64(0)) != 0
    is_new[shingles.offsets[:-1][np.diff(shingles.offsets) > 0]] = True
    return Shingles(hashes[is_new], np.concatenate([[0], np.cumsum(is_new)])[shingles.offsets])


def select_rows(shingles: Shingles, rows: Rows) -> Shingles:
    """Return only these rows."""
    sizes = np.diff(shingles.offsets)[rows]
    ends = np.cumsum(np.append(0, sizes))
    at = np.arange(ends[-1]) + np.repeat(shingles.offsets[rows] - ends[:-1], sizes)
    return Shingles(shingles.hashes[at], ends)


def join_rows(parts: list[Shingles]) -> Shingles:
    """Concatenate the rows of several parts."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Shingles(hashes, np.cumsum(sizes))


@numba.njit(cache=True, nogil=True)
def _shingle(data: Bytes, offsets: Offsets, n: int) -> tuple[Hashes, Offsets]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    total = np.int64(0)
    longest = np.int64(0)
    for row in range(n_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    used_data = data[offsets[0] : offsets[n_rows]]
    for i in range(len(used_data)):
        total += used_data[i] == 32
    out = np.empty(total + n_rows, np.uint64)
    ends = np.zeros(n_rows + 1, np.int64)
    starts = np.empty(longest + 2, np.int64)  # of the words of one row
    stops = np.empty(longest + 2, np.int64)
    block = make_block()
    used = np.int64(0)
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        if stop > start:
            at = np.uint64(0)
            for i in range(np.uint64(start), np.uint64(stop)):  # branch-free: the ends of words are unpredictable
                stops[at] = i
                at += np.uint64(data[i] == 32)
            stops[at] = stop
            n_words = np.int64(at) + 1
            starts[0] = start
            starts[1:n_words] = stops[: n_words - 1] + 1
            if n_words >= n:
                size = n_words - n + 1
                xxh64_many(data, starts[:size], stops[n - 1 : n_words], block, out[used : used + size])
                used += size
        ends[row + 1] = used
    return out[:used], ends
