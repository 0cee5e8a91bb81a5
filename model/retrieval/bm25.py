"""BM25 over weighted fields, in memory-mapped arrays: an inverted index that takes a millisecond a query.

In: the words of some fields of each unit, each field with a whole-number weight. A word's frequency in a unit is the weighted
sum over the fields, and so is the unit's length: BM25F with equal length normalization (Robertson, Zaragoza & Taylor, CIKM 2004).
Out: units with their scores, best first, at equal scores by row.

Memory: five bytes a posting, mapped. Time: some 2 ns a posting of the query's words. Statistics (number of units, of units with a
word, mean length) may be summed over several indexes, so that collections are ranked together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numba
import numpy as np
from numpy.typing import NDArray

from model.retrieval.mapped_arrays import describe_foreign, map_arrays, write_arrays
from model.retrieval.word_stems import WordIds

# On 428 hand-written questions (data/seed/questions, split train; title, own text and facets weigh 8, 4 and 1) R@1, R@10 and MRR
# are 33.4, 67.5 and 0.435; with k1 = 1.2, b = 0.5 29.0, 68.2 and 0.409; with k1 = 1.2, b = 0.7 30.6, 67.8 and 0.417.
K1 = 3.0
B = 0.4
MAX_FREQUENCY = 255
ARRAYS = ("word_bytes", "word_ends", "starts", "rows", "frequencies", "lengths")

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
jit = cast("Any", numba.njit)(cache=True, nogil=True)


class Ranked(NamedTuple):
    """Rows with their scores, best first."""

    rows: Ints
    scores: Floats


class Statistics(NamedTuple):
    """What the weight of a word depends on: numbers of units, sum of their lengths, and for each query word the number of units
    with it."""

    n_units: int
    total_length: int
    n_with_word: tuple[int, ...]

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        counts = tuple(a + b for a, b in zip(self.n_with_word, other.n_with_word, strict=True))
        return Statistics(self.n_units + other.n_units, self.total_length + other.total_length, counts)


def write_bm25(path: Path, fields: Sequence[tuple[WordIds, int]]) -> None:
    """Write the index of units whose fields are (words, weight); unit i is text i of each field."""
    words = sorted({word for field, _ in fields for word in field.words}, key=_to_bytes)
    numbers = {word: number for number, word in enumerate(words)}
    n_units = len(fields[0][0].offsets) - 1 if fields else 0
    postings = _Postings(len(words), n_units)
    for field, weight in fields:
        postings.add(np.array([numbers[word] for word in field.words], np.int64), field, weight)
    starts, rows, frequencies = postings.invert()
    lengths = np.bincount(rows, weights=frequencies, minlength=n_units).astype(np.uint32)
    encoded = [_to_bytes(word) for word in words]
    arrays = {
        "word_bytes": np.frombuffer(b"".join(encoded), np.uint8),
        "word_ends": np.cumsum([len(word) for word in encoded], dtype=np.int64),
        "starts": starts,
        "rows": rows,
        "frequencies": frequencies,
        "lengths": lengths,
    }
    write_arrays(path, arrays)


def _to_bytes(word: str) -> bytes:
    return word.encode("utf-8", "surrogatepass")


class _Postings:
    """Collects the occurrences of words and sorts them by word and row."""

    def __init__(self, n_words: int, n_units: int) -> None:
        self._n_words, self._n_units = n_words, max(n_units, 1)
        self._keys: list[Ints] = []
        self._weights: list[Ints] = []

    def add(self, numbers: Ints, field: WordIds, weight: int) -> None:
        """Add the words of a field, each once per unit with its weighted count."""
        if len(field.ids):
            rows = np.repeat(np.arange(len(field.offsets) - 1), np.diff(field.offsets))
            keys = np.sort(numbers[field.ids] * self._n_units + rows)
            at = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
            self._keys.append(keys[at])
            self._weights.append(np.diff(np.append(at, len(keys))) * weight)

    def invert(self) -> tuple[Ints, NDArray[np.uint32], NDArray[np.uint8]]:
        """Return the postings: start of each word, then row and frequency of each posting, rows ascending within a word."""
        keys = np.concatenate([np.zeros(0, np.int64), *self._keys])
        weights = np.concatenate([np.zeros(0, np.int64), *self._weights])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        at = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
        sums = np.add.reduceat(weights[order], at) if len(at) else np.zeros(0, np.int64)
        starts = np.searchsorted(keys[at], np.arange(self._n_words + 1) * self._n_units)
        rows = (keys[at] % self._n_units).astype(np.uint32)
        return starts.astype(np.int64), rows, np.minimum(sums, MAX_FREQUENCY).astype(np.uint8)


class Bm25:
    """One mapped index."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._bytes, self._ends = arrays["word_bytes"], arrays["word_ends"]
        self._starts, self._rows, self._frequencies = arrays["starts"], arrays["rows"], arrays["frequencies"]
        self.lengths = arrays["lengths"]
        self.n_units, self.n_words = len(self.lengths), len(self._ends)
        self.total_length = int(self.lengths.sum(dtype=np.int64))

    @classmethod
    def open(cls, path: Path) -> Bm25:
        """Map an index. Raises: ValueError for a file that is missing, truncated or foreign."""
        index = cls(map_arrays(path, ARRAYS))
        n_postings = len(index._rows)
        is_whole = len(index._starts) == index.n_words + 1 and len(index._frequencies) == n_postings
        if (
            not is_whole
            or int(index._starts[-1]) != n_postings
            or (n_postings and int(index._rows.max()) >= index.n_units)
        ):
            raise ValueError(describe_foreign(path, "arrays that do not belong together"))
        return index

    def find_word(self, word: str) -> int:
        """Return the number of a word, -1 for one that no unit has. Time: O(log words)."""
        wanted, low, high = _to_bytes(word), 0, self.n_words
        while low < high:
            middle = (low + high) // 2
            start = int(self._ends[middle - 1]) if middle else 0
            if self._bytes[start : int(self._ends[middle])].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == self.n_words:
            return -1
        start = int(self._ends[low - 1]) if low else 0
        return low if self._bytes[start : int(self._ends[low])].tobytes() == wanted else -1

    def get_statistics(self, words: Sequence[str]) -> Statistics:
        """Return the statistics of this index for some words."""
        numbers = [self.find_word(word) for word in words]
        counts = tuple(int(self._starts[n + 1] - self._starts[n]) if n >= 0 else 0 for n in numbers)
        return Statistics(self.n_units, self.total_length, counts)

    def rank(
        self,
        words: Sequence[str],
        limit: int,
        statistics: Statistics | None = None,
        boosts: Sequence[float] | None = None,
    ) -> Ranked:
        """Return at most `limit` units that have any of these distinct words, best first. `boosts` are factors of the words."""
        numbers = np.array([self.find_word(word) for word in words], np.int64)
        statistics = statistics or self.get_statistics(words)
        weights = compute_idf(statistics) * np.float32(K1 + 1)
        weights = weights if boosts is None else weights * np.array(boosts, np.float32)
        mean = np.float32(max(statistics.total_length, 1) / max(statistics.n_units, 1))
        keep = numbers >= 0
        if not keep.any() or limit < 1:
            return Ranked(np.zeros(0, np.int64), np.zeros(0, np.float32))
        postings = self._starts, self._rows, self._frequencies, self.lengths
        return Ranked(*_rank(*postings, numbers[keep], weights[keep], mean, min(limit, self.n_units)))


def compute_idf(statistics: Statistics) -> Floats:
    """Return the weight of each word: log(1 + (N - n + 0.5) / (n + 0.5))."""
    counts = np.array(statistics.n_with_word, np.float64)
    return np.log1p((statistics.n_units - counts + 0.5) / (counts + 0.5)).astype(np.float32)


@jit
def _rank(
    starts: Any, rows: Any, frequencies: Any, lengths: Any, words: Any, weights: Any, mean: Any, limit: Any
) -> Any:  # pragma: no cover (compiled)
    """Add up the scores of all postings, then keep the best by insertion."""
    scores = np.zeros(len(lengths), np.float32)
    base, slope = np.float32(K1 * (1 - B)), np.float32(K1 * B / mean)
    for at in range(len(words)):
        weight = weights[at]
        for posting in range(starts[words[at]], starts[words[at] + 1]):
            row = rows[posting]
            frequency = np.float32(frequencies[posting])
            scores[row] += weight * frequency / (frequency + base + slope * np.float32(lengths[row]))
    return keep_best(scores, limit, np.float32(0))


@jit
def keep_best(scores: Any, limit: Any, floor: Any) -> Any:  # pragma: no cover (compiled)
    """Return (rows, scores) of the `limit` largest scores above `floor`, largest first, at equal scores by row."""
    best = np.zeros(limit, np.float32)
    at = np.zeros(limit, np.int64)
    n, least = 0, floor
    for row in range(len(scores)):
        score = scores[row]
        if score > least:
            i = n if n < limit else limit - 1
            while i > 0 and best[i - 1] < score:
                best[i], at[i] = best[i - 1], at[i - 1]
                i -= 1
            best[i], at[i] = score, row
            n = min(n + 1, limit)
            if n == limit:
                least = best[limit - 1]
    return at[:n], best[:n]
