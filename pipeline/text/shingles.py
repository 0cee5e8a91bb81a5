"""Documents as sets of hashed shingles: n words in a row.

In: a column of words (`normalize.split_words`). Out: 64-bit hashes, flat, with offsets. A document of fewer than n words has
no shingle: it can be an exact duplicate, never a near one. Memory: 8 bytes a word. Time: linear, the sets n log n.

The hash of a shingle is XXH64 of its words joined by one space, which is a slice of the column of words. Two different
shingles of a million documents meet in 64 bits with a chance of 1 in 1,000: what the hashed sets share, the documents share.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from pipeline.text.columns import Bytes, Hashes, Offsets, Rows, to_utf8
from pipeline.text.hashing import xxh64


class Shingles(NamedTuple):
    """Document i owns `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes
    offsets: Offsets


def shingle(words: pa.StringArray, ngram_words: int) -> Shingles:
    """Every shingle of every row, in the order of the text."""
    data, offsets = to_utf8(words)
    return Shingles(*_shingle(data, offsets, ngram_words))


def as_sets(shingles: Shingles) -> Shingles:
    """The same rows without repetition, sorted."""
    rows = np.repeat(np.arange(len(shingles.offsets) - 1), np.diff(shingles.offsets))
    order = np.lexsort((shingles.hashes, rows))
    hashes, rows = shingles.hashes[order], rows[order]
    is_new = (np.diff(hashes, prepend=np.uint64(0)) != 0) | (np.diff(rows, prepend=-1) != 0)
    return Shingles(hashes[is_new], np.searchsorted(rows[is_new], np.arange(len(shingles.offsets))))


def select(shingles: Shingles, rows: Rows) -> Shingles:
    """These rows alone."""
    sizes = np.diff(shingles.offsets)[rows]
    ends = np.cumsum(np.append(0, sizes))
    at = np.arange(ends[-1]) + np.repeat(shingles.offsets[rows] - ends[:-1], sizes)
    return Shingles(shingles.hashes[at], ends)


def join(parts: list[Shingles]) -> Shingles:
    """Rows of several parts, one after the other."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Shingles(hashes, np.cumsum(sizes))


@numba.njit(cache=True, nogil=True)
def _shingle(data: Bytes, offsets: Offsets, n: int) -> tuple[Hashes, Offsets]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    total = 0
    for i in range(offsets[0], offsets[n_rows]):
        total += data[i] == 32
    out = np.empty(total + n_rows, np.uint64)
    ends = np.zeros(n_rows + 1, np.int64)
    starts = np.empty(n, np.int64)  # where the last n words began, as a ring
    used = 0
    for row in range(n_rows):
        stop = offsets[row + 1]
        start = offsets[row]
        n_words = 0
        i = start
        while i < stop:
            starts[n_words % n] = i
            n_words += 1
            while i < stop and data[i] != 32:
                i += 1
            if n_words >= n:
                out[used] = xxh64(data, starts[n_words % n], i)
                used += 1
            i += 1
        ends[row + 1] = used
    return out[:used], ends
