"""Rows of one table that meet rows of another: by sorted keys, by true Jaccard, and which of several wins.

In: sorted 64-bit keys with the row that each belongs to, keys that are looked for, shingle sets. Out: pairs of rows. Memory: 16
bytes a pair found. Time: a binary search a key; the keys looked for are sorted, so that neighbours share the cache.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.dedupe.minhash.shingles import Shingles
from pipeline.text.columns import Fractions, Hashes, Offsets, Rows

Places = npt.NDArray[np.uint32]


class SortedKeys(NamedTuple):
    """`keys` ascending; `keys[i]` belongs to row `places[i]`. Equal keys stand in the order of their rows."""

    keys: Hashes
    places: Places


class Wanted(NamedTuple):
    """A column of keys to look for, a row each, and the rows in the order of their keys: sorted once, asked many times."""

    keys: Hashes
    order: Rows


class Meetings(NamedTuple):
    """Row `wanted[i]` meets what stands at `firsts[i]` of the sorted keys and behind it, `counts[i]` (1 or more) in all."""

    wanted: Rows
    firsts: Rows
    counts: Rows


class Pairs(NamedTuple):
    """Row `wanted[i]` of the new table meets row `found[i]` of the old one."""

    wanted: Rows
    found: Rows


def sort_keys(keys: Hashes) -> SortedKeys:
    """A column of keys, made ready to be asked."""
    order = np.argsort(keys, kind="stable")
    return SortedKeys(keys[order], order.astype(np.uint32))


def sort_wanted(keys: Hashes) -> Wanted:
    """A column of keys, made ready to ask."""
    return Wanted(keys, np.argsort(keys, kind="stable"))


def id_keys(ids: pa.StringArray) -> Hashes:
    """XXH64 of each id: a first sieve, the ids themselves decide."""
    names: list[bytes] = ids.cast(pa.binary()).to_pylist()
    return np.array([xxhash.xxh64_intdigest(name) for name in names], np.uint64)


def digest_keys(digests: pa.FixedSizeBinaryArray) -> Hashes:
    """The first half of each digest of 16 bytes: a first sieve, the whole decides."""
    return digest_bytes(digests)[:, 0].copy()


def digest_bytes(digests: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    """The digests as rows of two numbers, without a copy."""
    data = np.frombuffer(digests.buffers()[1], np.uint64) if len(digests) else np.zeros(0, np.uint64)
    return data.reshape(-1, 2)[digests.offset : digests.offset + len(digests)]


def meet(index: SortedKeys, wanted: Wanted, is_asked: np.ndarray) -> Meetings:
    """Where the keys of the rows marked stand in the index; rows that stand nowhere are left out."""
    rows = wanted.order[is_asked[wanted.order]]
    needles = wanted.keys[rows]
    firsts = np.searchsorted(index.keys, needles)
    if len(index.keys) == 0 or len(rows) == 0:
        return Meetings(rows[:0], firsts[:0], firsts[:0])
    hit = np.flatnonzero(index.keys[np.minimum(firsts, len(index.keys) - 1)] == needles)
    counts = np.searchsorted(index.keys, needles[hit], side="right") - firsts[hit]
    return Meetings(rows[hit], firsts[hit], counts)


def pair_up(index: SortedKeys, met: Meetings) -> Pairs:
    """Each pair of a row and one that it meets."""
    ends = np.cumsum(met.counts)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(met.firsts - ends + met.counts, met.counts)
    return Pairs(np.repeat(met.wanted, met.counts), index.places[at].astype(np.int64))


def union(parts: Sequence[Pairs], n_found: int) -> Pairs:
    """Every pair once, sorted. `n_found` is more than any row of the old table."""
    codes = [np.zeros(0, np.int64), *(pair.wanted * n_found + pair.found for pair in parts)]
    once = np.unique(np.concatenate(codes))
    return Pairs(once // max(n_found, 1), once % max(n_found, 1))


def jaccard_between(new: Shingles, old: Shingles, pairs: Pairs) -> Fractions:
    """|A ∩ B| / |A ∪ B| of set `wanted[i]` of `new` and set `found[i]` of `old`; 0 where both are empty."""
    return _jaccard_between(new.hashes, new.offsets, old.hashes, old.offsets, pairs.wanted, pairs.found)


def choose(wanted: Rows, rank: Rows, is_exact: np.ndarray, similarity: Fractions, ids: pa.StringArray) -> Rows:
    """Of all pairs of a wanted row the one that counts: lowest rank, then exact, then most alike, then smallest id."""
    order = {"wanted": wanted, "rank": rank, "is_exact": is_exact.astype(np.int8), "similarity": similarity, "id": ids}
    ways = ["ascending", "ascending", "descending", "descending", "ascending"]
    by = pc.sort_indices(pa.table(order), sort_keys=list(zip(order, ways, strict=True))).to_numpy().astype(np.int64)
    return by[np.flatnonzero(np.diff(wanted[by], prepend=-1) != 0)]


@numba.njit(cache=True, nogil=True)
def _jaccard_between(
    new: Hashes, new_offsets: Offsets, old: Hashes, old_offsets: Offsets, wanted: Rows, found: Rows
) -> Fractions:  # pragma: no cover (compiled)
    out = np.zeros(len(wanted), np.float64)
    for pair in range(len(wanted)):
        i, i_stop = new_offsets[wanted[pair]], new_offsets[wanted[pair] + 1]
        j, j_stop = old_offsets[found[pair]], old_offsets[found[pair] + 1]
        both = i_stop - i + j_stop - j
        shared = 0
        while i < i_stop and j < j_stop:
            a, b = new[i], old[j]
            shared += a == b
            i += a <= b
            j += b <= a
        if both:
            out[pair] = shared / (both - shared)
    return out
