"""Match rows of one table with rows of another by sorted keys, verify them by true Jaccard, and choose one of several matches.

In: sorted 64-bit keys with the row that each belongs to, keys to look up, shingle sets. Out: pairs of rows. Memory: 16 bytes
per pair. Time: one binary search per key; the keys to look up are sorted, so that neighboring searches share cache lines.
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

KeyRows = npt.NDArray[np.uint32]


class SortedKeys(NamedTuple):
    """Hold keys in ascending order; `keys[i]` belongs to row `rows[i]`. Equal keys are in the order of their rows."""

    keys: Hashes
    rows: KeyRows


class Wanted(NamedTuple):
    """Hold a column of keys to look up, one per row, and the rows in the order of their keys: sorted once, used many times."""

    keys: Hashes
    order: Rows


class Meetings(NamedTuple):
    """Match row `wanted[i]` with the `counts[i]` (1 or more) sorted keys from index `firsts[i]` on."""

    wanted: Rows
    firsts: Rows
    counts: Rows


class Pairs(NamedTuple):
    """Match row `wanted[i]` of the new table with row `found[i]` of the old one."""

    wanted: Rows
    found: Rows


def sort_keys(keys: Hashes) -> SortedKeys:
    """Sort a column of keys that others are looked up in."""
    order = np.argsort(keys, kind="stable")
    return SortedKeys(keys[order], order.astype(np.uint32))


def sort_wanted(keys: Hashes) -> Wanted:
    """Sort a column of keys to look up."""
    return Wanted(keys, np.argsort(keys, kind="stable"))


def make_id_keys(ids: pa.StringArray) -> Hashes:
    """Return XXH64 of each id: it only nominates, the ids themselves decide."""
    names: list[bytes] = ids.cast(pa.binary()).to_pylist()
    return np.array([xxhash.xxh64_intdigest(name) for name in names], np.uint64)


def make_digest_keys(digests: pa.FixedSizeBinaryArray) -> Hashes:
    """Return the first half of each digest of 16 bytes: it only nominates, the whole digest decides."""
    return view_digests(digests)[:, 0].copy()


def view_digests(digests: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    """Return the digests as rows of two numbers, without a copy."""
    data = np.frombuffer(digests.buffers()[1], np.uint64) if len(digests) else np.zeros(0, np.uint64)
    return data.reshape(-1, 2)[digests.offset : digests.offset + len(digests)]


def find_meetings(index: SortedKeys, wanted: Wanted, is_queried: np.ndarray) -> Meetings:
    """Look up the keys of the rows flagged in `is_queried`; rows without a match are left out."""
    rows = wanted.order[is_queried[wanted.order]]
    needles = wanted.keys[rows]
    firsts = np.searchsorted(index.keys, needles)
    if len(index.keys) == 0 or len(rows) == 0:
        return Meetings(rows[:0], firsts[:0], firsts[:0])
    hit = np.flatnonzero(index.keys[np.minimum(firsts, len(index.keys) - 1)] == needles)
    counts = np.searchsorted(index.keys, needles[hit], side="right") - firsts[hit]
    return Meetings(rows[hit], firsts[hit], counts)


def pair_up(index: SortedKeys, met: Meetings) -> Pairs:
    """Expand meetings to pairs of rows."""
    ends = np.cumsum(met.counts)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(met.firsts - ends + met.counts, met.counts)
    return Pairs(np.repeat(met.wanted, met.counts), index.rows[at].astype(np.int64))


def merge_pairs(parts: Sequence[Pairs], n_found: int) -> Pairs:
    """Return every distinct pair, sorted. `n_found` exceeds every row number of the old table."""
    codes = [np.zeros(0, np.int64), *(pair.wanted * n_found + pair.found for pair in parts)]
    once = np.unique(np.concatenate(codes))
    return Pairs(once // max(n_found, 1), once % max(n_found, 1))


def compute_jaccard_between(new: Shingles, old: Shingles, pairs: Pairs) -> Fractions:
    """Return |A ∩ B| / |A ∪ B| of set `wanted[i]` of `new` and set `found[i]` of `old`; 0 where both are empty."""
    return _compute_jaccard_between(new.hashes, new.offsets, old.hashes, old.offsets, pairs.wanted, pairs.found)


def choose_pairs(wanted: Rows, rank: Rows, is_exact: np.ndarray, similarity: Fractions, ids: pa.StringArray) -> Rows:
    """Return the index of one pair for each wanted row: lowest rank, then exact, then most similar, then smallest id."""
    order = {"wanted": wanted, "rank": rank, "is_exact": is_exact.astype(np.int8), "similarity": similarity, "id": ids}
    ways = ["ascending", "ascending", "descending", "descending", "ascending"]
    by = pc.sort_indices(pa.table(order), sort_keys=list(zip(order, ways, strict=True))).to_numpy().astype(np.int64)
    return by[np.flatnonzero(np.diff(wanted[by], prepend=-1) != 0)]


@numba.njit(cache=True, nogil=True)
def _compute_jaccard_between(
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
