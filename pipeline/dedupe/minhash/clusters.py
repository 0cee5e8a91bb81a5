"""Turn band keys into candidate pairs, verified pairs into clusters, and clusters into survivors.

In: band keys and shingle sets of documents, best document first (row 0 survives before row 1). Out: for each document the row
of the document that it is dropped for, or its own; nothing depends on the order in which files were read.

1. Documents that share a band key form a bucket. Buckets result from sorting each band's keys: n log n, 16 bytes per document
   and band, no hash table.
2. Inside a bucket only star edges are compared, from its best document to the others: b − 1 pairs, not b². Documents that are
   not similar to the center (true Jaccard below the threshold) get a center of their own, `MAX_CENTERS` times at most.
3. A pair counts when its true Jaccard reaches the threshold; only such pairs are joined (union-find). Joining all pairs that
   merely share a band would chain dissimilar documents.
4. Chains A ~ B ~ C with A dissimilar to C are resolved: within a cluster a document is dropped only for a survivor that it is
   similar to itself, so the value in the ledger is never below the threshold, and no two survivors of a cluster are duplicates.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from pipeline.dedupe.minhash.shingles import Shingles
from pipeline.text.columns import Fractions, Hashes, Offsets, Rows

MAX_CENTERS = 16
VERIFIED = np.uint64(1 << 63)
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / the golden ratio: spreads neighboring codes far apart


class Buckets(NamedTuple):
    """Hold buckets: bucket i has the documents `members[offsets[i]:offsets[i + 1]]`, ascending, two or more."""

    members: Rows
    offsets: Offsets


class Verified(NamedTuple):
    """Hold the pairs (left < right) at or above the threshold, and how many pairs were compared."""

    left: Rows
    right: Rows
    n_candidates: int


class NearDecisions(NamedTuple):
    """Hold for each document its survivor (itself if it stays), their similarity, and the first document of its cluster."""

    survivor: Rows
    similarity: Fractions
    cluster: Rows


class Slices(NamedTuple):
    """Hold sorted sets: document i owns `hashes[starts[i]:stops[i]]`."""

    hashes: Hashes
    starts: Offsets
    stops: Offsets


class SimilarPairs(NamedTuple):
    """Hold a hash table of pairs and their similarity: a pair is in the slot that its code selects; the size is a power of two."""

    codes: Hashes
    values: Fractions


class Members(NamedTuple):
    """Hold documents and their clusters, sorted by cluster, then by document."""

    rows: Rows
    clusters: Rows


def group_equal(keys: Hashes, is_eligible: np.ndarray) -> Buckets:
    """Return the buckets of documents with equal keys in a band. `keys` has one row per document and one column per band."""
    rows = np.flatnonzero(is_eligible)
    members, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for band in range(keys.shape[1]):
        column = keys[rows, band]
        order = np.argsort(
            column
        )  # unstable, three times as fast: few keys are shared, and those are sorted again below
        is_same = np.diff(column[order]) == 0
        shared = order[np.append(is_same, False) | np.append(False, is_same)] if len(rows) else order
        shared = shared[np.lexsort((shared, column[shared]))]
        starts = np.flatnonzero(np.append(True, np.diff(column[shared]) != 0)) if len(shared) else shared
        members.append(rows[shared])
        sizes.append(np.diff(starts, append=len(shared)))
    return Buckets(np.concatenate(members), np.concatenate([[0], np.cumsum(np.concatenate(sizes))]))


def verify(buckets: Buckets, sets: Shingles, min_jaccard: float) -> Verified:
    """Return the verified pairs of all buckets. `sets` has one row per document (empty where none is needed)."""
    n_docs = len(sets.offsets) - 1
    seen, values = np.zeros(0, np.int64), np.zeros(0, np.float64)
    members, offsets = buckets
    for _ in range(MAX_CENTERS):
        if len(members) == 0:
            break
        sizes = np.diff(offsets)
        centers = np.repeat(members[offsets[:-1]], sizes)
        codes = centers * n_docs + members
        is_edge = centers != members
        fresh = np.setdiff1d(codes[is_edge], seen)
        similarity = compute_jaccard(sets, fresh // n_docs, fresh % n_docs)
        order = np.argsort(np.concatenate([seen, fresh]))
        seen, values = np.concatenate([seen, fresh])[order], np.concatenate([values, similarity])[order]
        is_left = is_edge & (_look_up(codes, seen, values) < min_jaccard)
        members, offsets = _keep(members, offsets, is_left)
    is_pair = values >= min_jaccard
    return Verified(seen[is_pair] // max(n_docs, 1), seen[is_pair] % max(n_docs, 1), len(seen))


def decide_survivors(n_docs: int, pairs: Verified, sets: Shingles, min_jaccard: float) -> NearDecisions:
    """Cluster verified pairs and return for each document the survivor that it is dropped for."""
    cluster = np.arange(n_docs)
    join_pairs(cluster, pairs.left, pairs.right)
    flatten(cluster)
    order = np.argsort(cluster, kind="stable")  # by cluster, best document first in each
    decisions = NearDecisions(np.arange(n_docs), np.ones(n_docs), cluster)
    elect(Members(order, cluster[order]), to_slices(sets), min_jaccard, decisions.survivor, decisions.similarity)
    return decisions


def to_slices(sets: Shingles) -> Slices:
    """Return the same rows by their starts and stops."""
    return Slices(sets.hashes, sets.offsets[:-1], sets.offsets[1:])


def find_star_edges(
    buckets: Buckets, position: Rows, sets: Slices, min_jaccard: float, seen: SimilarPairs, out: Hashes
) -> int:
    """Do the work of `verify` in steps of any size: fill `out` with pairs not in `seen`, each as left · n_docs + right, with
    `VERIFIED` set where they are duplicates. Return their number. `position` (three zeros at first) is where the next call resumes;
    its first number equals the number of buckets when all are done. Overwrites `buckets.members`. `out` must have room for the
    largest bucket."""
    return _find_star_edges(*buckets, position, *sets, min_jaccard, *seen, out)


def make_pair_table(n_bytes: int) -> SimilarPairs:
    """Return an empty table for pairs already compared, of about `n_bytes`; an evicted pair is compared again."""
    n_slots = 1 << max(4, (n_bytes // 16).bit_length() - 1)
    return SimilarPairs(np.zeros(n_slots, np.uint64), np.zeros(n_slots, np.float64))


def join_pairs(cluster: Rows, left: Rows, right: Rows) -> None:
    """Join pairs by union-find, in place: `cluster` is each document's parent; call `flatten` after the last pair."""
    _join_pairs(cluster, left, right)


def flatten(cluster: Rows) -> None:
    """Make every document point directly at the first one of its cluster."""
    _flatten(cluster)


def elect(members: Members, sets: Slices, min_jaccard: float, survivor: Rows, similarity: Fractions) -> None:
    """Write the survivor and the similarity of each member. Members are in the order of clusters, best first in each."""
    _elect(*members, *sets, min_jaccard, survivor, similarity)


def compute_jaccard(sets: Shingles, left: Rows, right: Rows) -> Fractions:
    """Return |A ∩ B| / |A ∪ B| of row `left[i]` and row `right[i]`; 0 where both are empty."""
    return _compute_jaccard(*to_slices(sets), left, right)


def _look_up(codes: Rows, seen: Rows, values: Fractions) -> Fractions:
    at = np.minimum(np.searchsorted(seen, codes), max(len(seen) - 1, 0))
    return values[at] if len(seen) else np.zeros(len(codes))


def _keep(members: Rows, offsets: Offsets, is_kept: np.ndarray) -> Buckets:
    """Return the buckets with only the flagged members, without those of fewer than two members."""
    sizes = np.add.reduceat(is_kept.astype(np.int64), offsets[:-1])
    is_large = sizes > 1
    kept = members[is_kept & np.repeat(is_large, np.diff(offsets))]
    return Buckets(kept, np.concatenate([[0], np.cumsum(sizes[is_large])]))


@numba.njit(nogil=True)
def _compute_similarity(
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
def _compute_jaccard(
    hashes: Hashes, starts: Offsets, stops: Offsets, left: Rows, right: Rows
) -> Fractions:  # pragma: no cover (compiled)
    out = np.empty(len(left), np.float64)
    for pair in range(len(left)):
        out[pair] = _compute_similarity(hashes, starts, stops, left[pair], right[pair])
    return out


@numba.njit(cache=True, nogil=True)
def _find_star_edges(
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
        while size > 1 and position[2] < MAX_CENTERS:
            if n + size > len(out):
                position[1] = size
                return n
            center, n_left = members[first], 0
            for i in range(first + 1, first + size):
                member = members[i]
                code = np.uint64(center) * n_docs + np.uint64(member)
                slot = ((code * SPREAD) >> np.uint64(20)) & (n_slots - np.uint64(1))
                if codes[slot] != code:  # 0 is no valid code: the right document of a pair is never document 0
                    codes[slot] = code
                    values[slot] = _compute_similarity(hashes, starts, stops, center, member)
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
        parent[max(i, j)] = min(i, j)  # the root is the first document of the cluster


@numba.njit(cache=True, nogil=True)
def _flatten(parent: Rows) -> None:  # pragma: no cover (compiled)
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]  # roots have smaller numbers, so one step is enough


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
    survivors = np.empty(len(rows), np.int64)
    n_survivors = 0
    for at in range(len(rows)):
        row = rows[at]
        if at == 0 or cluster[at] != cluster[at - 1]:
            n_survivors = 0
        is_survivor = True
        for k in range(n_survivors):
            value = _compute_similarity(hashes, starts, stops, survivors[k], row)
            if value >= min_jaccard:
                survivor[row], similarity[row] = survivors[k], value
                is_survivor = False
                break
        if is_survivor:
            survivors[n_survivors] = row
            n_survivors += 1
