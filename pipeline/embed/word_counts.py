"""Hold how often each known word occurs in each text: sparse rows of counts.

In: words of texts as numbers. Out: per text its distinct words in ascending order with their counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numba
import numpy as np
from numpy.typing import NDArray

jit = cast("Any", numba.njit)(cache=True, nogil=True)


class Counts(NamedTuple):
    """Row i has the words ids[starts[i] : starts[i + 1]]."""

    starts: NDArray[np.int64]
    ids: NDArray[np.int32]
    counts: NDArray[np.float32]

    @property
    def n_rows(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    def list_owners(self) -> NDArray[np.int64]:
        """Return the row of each entry."""
        return np.repeat(np.arange(self.n_rows), np.diff(self.starts))

    def count_docs(self, n_words: int) -> NDArray[np.int64]:
        """Return the number of rows that have each word."""
        return np.bincount(self.ids, minlength=n_words)

    def take(self, rows: NDArray[np.int64]) -> Counts:
        """Return some rows in their order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[rows], lengths)
        return Counts(starts, self.ids[at], self.counts[at])

    def keep(self, is_kept: NDArray[np.bool_]) -> Counts:
        """Return the entries that are marked."""
        total = np.concatenate([[0], np.cumsum(is_kept)])
        return Counts(total[self.starts], self.ids[is_kept], self.counts[is_kept])


def stack_rows(parts: Sequence[Counts]) -> Counts:
    """Return the rows of several tables below each other."""
    ends = np.cumsum([0, *(len(part.ids) for part in parts)])
    starts = [part.starts[1:] + end for part, end in zip(parts, ends, strict=False)]
    return Counts(
        np.concatenate([[0], *starts]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def add_rows(one: Counts, two: Counts, n_words: int) -> Counts:
    """Return the sum of two tables with the same number of rows."""
    keys = np.concatenate([part.list_owners() * n_words + part.ids for part in (one, two)])
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], np.concatenate([one.counts, two.counts])[order]
    at = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    sums = np.add.reduceat(counts, at) if len(at) else counts
    starts = np.searchsorted(keys[at], np.arange(one.n_rows + 1) * n_words)
    return Counts(starts.astype(np.int64), (keys[at] % n_words).astype(np.int32), sums.astype(np.float32))


def count_words(words: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Counts:
    """Return the counts of texts, whose words are those from start to end; negative numbers are skipped."""
    return Counts(*_count(words, starts, ends, int((ends - starts).sum())))


@jit
def _count(words: Any, begins: Any, ends: Any, n_words: Any) -> Any:  # pragma: no cover (compiled)
    n = len(begins)
    starts = np.zeros(n + 1, np.int64)
    ids, counts = np.empty(n_words, np.int32), np.empty(n_words, np.float32)
    at = 0
    for text in range(n):
        line = np.sort(words[begins[text] : ends[text]])
        for i in range(len(line)):
            if line[i] < 0:
                continue
            if at > starts[text] and ids[at - 1] == line[i]:
                counts[at - 1] += 1
            else:
                ids[at], counts[at] = line[i], 1
                at += 1
        starts[text + 1] = at
    return starts, ids[:at].copy(), counts[:at].copy()


def mark_shared(one: Counts, two: Counts) -> NDArray[np.bool_]:
    """Return for each entry of `one` whether the same row of `two` has the word."""
    return cast("NDArray[np.bool_]", _mark(one.starts, one.ids, two.starts, two.ids))


@jit
def _mark(starts: Any, ids: Any, others: Any, other_ids: Any) -> Any:  # pragma: no cover (compiled)
    is_shared = np.zeros(len(ids), np.bool_)
    for row in range(len(starts) - 1):
        j = others[row]
        for i in range(starts[row], starts[row + 1]):
            while j < others[row + 1] and other_ids[j] < ids[i]:
                j += 1
            is_shared[i] = j < others[row + 1] and other_ids[j] == ids[i]
    return is_shared


def transpose(counts: Counts, n_words: int) -> Counts:
    """Return rows by word: the texts that have it, ascending."""
    starts = np.concatenate([[0], np.cumsum(counts.count_docs(n_words))])
    return Counts(starts, *_transpose(counts.starts, counts.ids, counts.counts, starts[:-1].copy()))


@jit
def _transpose(starts: Any, ids: Any, counts: Any, at: Any) -> Any:  # pragma: no cover (compiled)
    owners, moved = np.empty(len(ids), np.int32), np.empty(len(ids), np.float32)
    for row in range(len(starts) - 1):
        for i in range(starts[row], starts[row + 1]):
            owners[at[ids[i]]], moved[at[ids[i]]] = row, counts[i]
            at[ids[i]] += 1
    return owners, moved
