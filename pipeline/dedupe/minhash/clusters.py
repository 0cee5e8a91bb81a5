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

from pipeline.dedupe.minhash.shingles import Shingles
from pipeline.text.columns import Fractions, Hashes, Offsets, Rows

MAX_CENTRES = 16
VERIFIED = np.uint64(1 << 63)
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / the golden ratio: neighbouring codes land far apart


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


class Slices(NamedTuple):
    """Sorted sets: document i owns `hashes[starts[i]:stops[i]]`."""

    hashes: Hashes
    starts: Offsets
    stops: Offsets


class SimilarPairs(NamedTuple):
    """Pairs and their similarity, each at the place that its code says (a power of two of them)."""

    codes: Hashes
    values: Fractions


class Members(NamedTuple):
    """Documents and the clusters they are in, sorted by cluster, then by document."""

    rows: Rows
    clusters: Rows


def group_equal(keys: Hashes, is_eligible: np.ndarray) -> Buckets:
    """Documents with the same key in the same band. `keys` has a row a document and a column a band."""
    rows = np.flatnonzero(is_eligible)
    members, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for band in range(keys.shape[1]):
        column = keys[rows, band]
        order = np.argsort(
            column
        )  # not stable, which is three times as fast: few keys are shared, and those are sorted again
        is_same = np.diff(column[order]) == 0
        shared = order[np.append(is_same, False) | np.append(False, is_same)] if len(rows) else order
        shared = shared[np.lexsort((shared, column[shared]))]
        starts = np.flatnonzero(np.append(True, np.diff(column[shared]) != 0)) if len(shared) else shared
        members.append(rows[shared])
        sizes.append(np.diff(starts, append=len(shared)))
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
    cluster = np.arange(n_docs)
    join_pairs(cluster, pairs.left, pairs.right)
    flatten(cluster)
    order = np.argsort(cluster, kind="stable")  # clusters together, best document first in each
    found = Decisions(np.arange(n_docs), np.ones(n_docs), cluster)
    elect(Members(order, cluster[order]), slices(sets), min_jaccard, found.survivor, found.similarity)
    return found


def slices(sets: Shingles) -> Slices:
    """The same rows, by their starts and stops."""
    return Slices(sets.hashes, sets.offsets[:-1], sets.offsets[1:])


def star_edges(
    buckets: Buckets, position: Rows, sets: Slices, min_jaccard: float, seen: SimilarPairs, out: Hashes
) -> int:
    """What `verify` does, in pieces of any size: fills `out` with pairs not in `seen`, each as left · n_docs + right, and
    `VERIFIED` set where they are duplicates in truth. Returns how many; `position` (three zeros at first) says where to go
    on, and its first number is that of the buckets when all is done. Uses up `buckets.members`. `out` holds the largest bucket.
    """
    return _star_edges(*buckets, position, *sets, min_jaccard, *seen, out)


def new_seen(n_bytes: int) -> SimilarPairs:
    """Room for pairs already looked at; a pair that was pushed out is looked at again."""
    n_slots = 1 << max(4, (n_bytes // 16).bit_length() - 1)
    return SimilarPairs(np.zeros(n_slots, np.uint64), np.zeros(n_slots, np.float64))


def join_pairs(cluster: Rows, left: Rows, right: Rows) -> None:
    """Union-find, in place: `cluster` leads each document to its cluster's first one; `flatten` when all are joined."""
    _join_pairs(cluster, left, right)


def flatten(cluster: Rows) -> None:
    """Every document points at the first of its cluster."""
    _flatten(cluster)


def elect(members: Members, sets: Slices, min_jaccard: float, survivor: Rows, similarity: Fractions) -> None:
    """Writes for each member who stays in its place and how alike they are. Members come by cluster, best first."""
    _elect(*members, *sets, min_jaccard, survivor, similarity)


def jaccard(sets: Shingles, left: Rows, right: Rows) -> Fractions:
    """|A ∩ B| / |A ∪ B| of row `left[i]` and row `right[i]`; 0 where both are empty."""
    return _jaccard(*slices(sets), left, right)


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
def _similarity(
    hashes: Hashes, starts: Offsets, stops: Offsets, left: int, right: int
) -> float:  # pragma: no cover (compiled)
    i, i_stop = starts[left], stops[left]
    j, j_stop = starts[right], stops[right]
    both = i_stop - i + j_stop - j
    shared = 0
    while i < i_stop and j < j_stop:
        a, b = hashes[i], hashes[j]
        shared += a == b
        i += a <= b
        j += b <= a
    return shared / (both - shared) if both else 0.0


@numba.njit(cache=True, nogil=True)
def _jaccard(
    hashes: Hashes, starts: Offsets, stops: Offsets, left: Rows, right: Rows
) -> Fractions:  # pragma: no cover (compiled)
    out = np.empty(len(left), np.float64)
    for pair in range(len(left)):
        out[pair] = _similarity(hashes, starts, stops, left[pair], right[pair])
    return out


@numba.njit(cache=True, nogil=True)
def _star_edges(
    members: Rows,
    offsets: Offsets,
    position: Rows,
    hashes: Hashes,
    starts: Offsets,
    stops: Offsets,
    min_jaccard: float,
    codes: Hashes,
    values: Fractions,
    out: Hashes,
) -> int:  # pragma: no cover (compiled)
    n = 0
    n_docs, n_slots = np.uint64(len(starts)), np.uint64(len(codes))
    while position[0] < len(offsets) - 1:
        first = int(offsets[position[0]])
        size = position[1] or offsets[position[0] + 1] - first
        while size > 1 and position[2] < MAX_CENTRES:
            if n + size > len(out):
                position[1] = size
                return n
            centre, n_left = members[first], 0
            for i in range(first + 1, first + size):
                member = members[i]
                code = np.uint64(centre) * n_docs + np.uint64(member)
                slot = ((code * SPREAD) >> np.uint64(20)) & (n_slots - np.uint64(1))
                if codes[slot] != code:  # 0 is no pair: the second of two documents is never the first
                    codes[slot] = code
                    values[slot] = _similarity(hashes, starts, stops, centre, member)
                    out[n] = code | VERIFIED if values[slot] >= min_jaccard else code
                    n += 1
                if values[slot] < min_jaccard:
                    members[first + n_left] = member
                    n_left += 1
            size = n_left
            position[2] += 1
        position[0] += 1
        position[1] = position[2] = 0
    return n


@numba.njit(cache=True, nogil=True)
def _join_pairs(parent: Rows, left: Rows, right: Rows) -> None:  # pragma: no cover (compiled)
    for pair in range(len(left)):
        i, j = left[pair], right[pair]
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        while parent[j] != j:
            parent[j] = parent[parent[j]]
            j = parent[j]
        parent[max(i, j)] = min(i, j)  # the root is the cluster's first document


@numba.njit(cache=True, nogil=True)
def _flatten(parent: Rows) -> None:  # pragma: no cover (compiled)
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]  # roots come first, so one step is enough


@numba.njit(cache=True, nogil=True)
def _elect(
    rows: Rows,
    cluster: Rows,
    hashes: Hashes,
    starts: Offsets,
    stops: Offsets,
    min_jaccard: float,
    survivor: Rows,
    similarity: Fractions,
) -> None:  # pragma: no cover (compiled)
    staying = np.empty(len(rows), np.int64)
    n_staying = 0
    for at in range(len(rows)):
        row = rows[at]
        if at == 0 or cluster[at] != cluster[at - 1]:
            n_staying = 0
        stays = True
        for k in range(n_staying):
            alike = _similarity(hashes, starts, stops, staying[k], row)
            if alike >= min_jaccard:
                survivor[row], similarity[row] = staying[k], alike
                stays = False
                break
        if stays:
            staying[n_staying] = row
            n_staying += 1
