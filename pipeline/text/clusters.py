"""Band keys to candidate pairs, verified pairs to clusters, clusters to survivors.

In: band keys and shingle sets of documents, best document first (row 0 survives before row 1). Out: for each document the row
of the document that it is dropped for, or its own; nothing depends on the order that files were read in.

1. Documents that share a band key are a bucket. Buckets come from sorting each band's keys: n log n, 16 bytes a document
   and band, no hash table.
2. Inside a bucket only star edges are drawn, from its best document to the others: b − 1 pairs, not b². Whom the centre
   turns away (true Jaccard below the threshold) elects a centre of its own, `MAX_CENTRES` times at most.
3. A pair counts when its true Jaccard reaches the threshold; only such pairs are joined (union-find). Joining what merely
   shares a band would chain unlike documents.
4. A chain A ~ B ~ C with A unlike C stays honest: inside a cluster a document is dropped only for a survivor that it
   resembles itself, so the value in the ledger is never below the threshold, and no two survivors of a cluster are duplicates.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from pipeline.text.columns import Fractions, Hashes, Offsets, Rows
from pipeline.text.shingles import Shingles

MAX_CENTRES = 16


class Buckets(NamedTuple):
    """Bucket i holds the documents `members[offsets[i]:offsets[i + 1]]`, ascending, two or more."""

    members: Rows
    offsets: Offsets


class Verified(NamedTuple):
    """Pairs (left < right) at or above the threshold, and how many pairs were looked at."""

    left: Rows
    right: Rows
    n_candidates: int


class Decisions(NamedTuple):
    """For each document: who stays in its place (itself when it stays), how alike they are, its cluster's first document."""

    survivor: Rows
    similarity: Fractions
    cluster: Rows


def group_equal(keys: Hashes, is_eligible: np.ndarray) -> Buckets:
    """Documents with the same key in the same band. `keys` has a row a document and a column a band."""
    rows = np.flatnonzero(is_eligible)
    members, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for band in range(keys.shape[1]):
        column = keys[rows, band]
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=np.uint64(0)) != 0)
        starts = np.union1d(starts, [0]) if len(rows) else starts
        size = np.diff(starts, append=len(rows))
        members.append(rows[order[np.repeat(size > 1, size)]])
        sizes.append(size[size > 1])
    return Buckets(np.concatenate(members), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]))


def verify(buckets: Buckets, sets: Shingles, min_jaccard: float) -> Verified:
    """The pairs of all buckets that are duplicates in truth. `sets` has a row a document (empty where none is needed)."""
    n_docs = len(sets.offsets) - 1
    seen, values = np.zeros(0, np.int64), np.zeros(0, np.float64)
    members, offsets = buckets
    for _ in range(MAX_CENTRES):
        if len(members) == 0:
            break
        sizes = np.diff(offsets)
        centres = np.repeat(members[offsets[:-1]], sizes)
        codes = centres * n_docs + members
        is_edge = centres != members
        fresh = np.setdiff1d(codes[is_edge], seen)
        found = jaccard(sets, fresh // n_docs, fresh % n_docs)
        order = np.argsort(np.concatenate([seen, fresh]))
        seen, values = np.concatenate([seen, fresh])[order], np.concatenate([values, found])[order]
        is_left = is_edge & (_look_up(codes, seen, values) < min_jaccard)
        members, offsets = _keep(members, offsets, is_left)
    is_pair = values >= min_jaccard
    return Verified(seen[is_pair] // max(n_docs, 1), seen[is_pair] % max(n_docs, 1), len(seen))


def decide(n_docs: int, pairs: Verified, sets: Shingles, min_jaccard: float) -> Decisions:
    """Clusters of verified pairs, and for each document the survivor that stands in for it."""
    cluster = _union(n_docs, pairs.left, pairs.right)
    order = np.argsort(cluster, kind="stable")  # clusters together, best document first in each
    survivor, similarity = _survivors(cluster, order, sets.hashes, sets.offsets, min_jaccard)
    return Decisions(survivor, similarity, cluster)


def jaccard(sets: Shingles, left: Rows, right: Rows) -> Fractions:
    """|A ∩ B| / |A ∪ B| of row `left[i]` and row `right[i]`; 0 where both are empty."""
    return _jaccard(sets.hashes, sets.offsets, left, right)


def _look_up(codes: Rows, seen: Rows, values: Fractions) -> Fractions:
    at = np.minimum(np.searchsorted(seen, codes), max(len(seen) - 1, 0))
    return values[at] if len(seen) else np.zeros(len(codes))


def _keep(members: Rows, offsets: Offsets, is_kept: np.ndarray) -> Buckets:
    """The buckets with only the members marked; those of one member or none are gone."""
    sizes = np.add.reduceat(is_kept.astype(np.int64), offsets[:-1])
    is_large = sizes > 1
    kept = members[is_kept & np.repeat(is_large, np.diff(offsets))]
    return Buckets(kept, np.concatenate([[0], np.cumsum(sizes[is_large])]))


@numba.njit(nogil=True)
def _similarity(hashes: Hashes, offsets: Offsets, left: int, right: int) -> float:  # pragma: no cover (compiled)
    i, i_stop = offsets[left], offsets[left + 1]
    j, j_stop = offsets[right], offsets[right + 1]
    both = i_stop - i + j_stop - j
    shared = 0
    while i < i_stop and j < j_stop:
        a, b = hashes[i], hashes[j]
        shared += a == b
        i += a <= b
        j += b <= a
    return shared / (both - shared) if both else 0.0


@numba.njit(cache=True, nogil=True)
def _jaccard(hashes: Hashes, offsets: Offsets, left: Rows, right: Rows) -> Fractions:  # pragma: no cover (compiled)
    out = np.empty(len(left), np.float64)
    for pair in range(len(left)):
        out[pair] = _similarity(hashes, offsets, left[pair], right[pair])
    return out


@numba.njit(cache=True, nogil=True)
def _union(n_docs: int, left: Rows, right: Rows) -> Rows:  # pragma: no cover (compiled)
    parent = np.arange(n_docs)
    for pair in range(len(left)):
        i, j = left[pair], right[pair]
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        while parent[j] != j:
            parent[j] = parent[parent[j]]
            j = parent[j]
        parent[max(i, j)] = min(i, j)  # the root is the cluster's first document
    for i in range(n_docs):
        parent[i] = parent[parent[i]]  # roots come first, so one step is enough
    return parent


@numba.njit(cache=True, nogil=True)
def _survivors(
    cluster: Rows, order: Rows, hashes: Hashes, offsets: Offsets, min_jaccard: float
) -> tuple[Rows, Fractions]:  # pragma: no cover (compiled)
    survivor = np.arange(len(cluster))
    similarity = np.ones(len(cluster), np.float64)
    staying = np.empty(len(cluster), np.int64)
    n_staying = 0
    for at in range(len(order)):
        row = order[at]
        if cluster[row] == row:  # a cluster begins with its best document
            n_staying = 0
        for k in range(n_staying):
            alike = _similarity(hashes, offsets, staying[k], row)
            if alike >= min_jaccard:
                survivor[row], similarity[row] = staying[k], alike
                break
        if survivor[row] == row:
            staying[n_staying] = row
            n_staying += 1
    return survivor, similarity
