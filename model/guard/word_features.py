"""Turn texts into hashed features: stemmed words, pairs of words, and character n-grams of words.

In: folded texts (readings.py). Out: the buckets of each text's features, ascending and each once. A word counts by itself, with the
next word, with the one after that (`kill … process`), and by its n-grams of 3 to 5 characters within `<word>`, so that spellings
which training never saw still share most of their features. Numbers count as one word. Time: 40 µs for a text of 20 words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
import Stemmer
from numpy.typing import NDArray

N_BUCKETS = 1 << 16  # the templates and documentation have 60,000 features that occur twice
MAX_WORDS = 400  # of one text; longer ones are cut into windows before
MIN_GRAM, MAX_GRAM = 3, 5
LENGTH_FEATURES = 3  # one alone would hardly count beside a hundred others
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")
_FNV_START, _FNV_FACTOR = 0xCBF29CE484222325, 0x100000001B3

Buckets = NDArray[np.int32]
Offsets = NDArray[np.int64]


class FeatureRows(NamedTuple):
    """The buckets of many texts: those of text i are `buckets[offsets[i] : offsets[i + 1]]`."""

    buckets: Buckets
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: NDArray[np.int64]) -> FeatureRows:
        """Return some of the rows, in this order."""
        parts = [self.buckets[self.offsets[row] : self.offsets[row + 1]] for row in rows.tolist()]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return FeatureRows(np.concatenate(parts) if parts else np.zeros(0, np.int32), offsets)


def split_stems(text: str) -> list[str]:
    """Return the stemmed words of a folded text; every number is `0`."""
    return [_stem(word) for word in _WORD.findall(text)[:MAX_WORDS]]


@lru_cache(maxsize=1 << 15)
def _stem(word: str) -> str:
    if word[0].isdigit():
        return "0"
    return Stemmer.Stemmer("english", 0).stemWord(word.replace("’", "'").removesuffix("'s"))


def make_features(texts: Sequence[str]) -> FeatureRows:
    """Return the features of folded texts."""
    stems = [split_stems(text) for text in texts]
    words = [word.encode() for line in stems for word in line]
    data = np.frombuffer(b"".join(words) or b"\0", np.uint8)
    starts = np.concatenate([[0], np.cumsum([len(word) for word in words])]).astype(np.int64)
    lines = np.concatenate([[0], np.cumsum([len(line) for line in stems])]).astype(np.int64)
    buckets, offsets = _hash_features(data, starts, lines)
    return FeatureRows(buckets, offsets)


@numba.njit(nogil=True)
def _mix(hash_: np.uint64, byte: int) -> np.uint64:  # pragma: no cover (compiled)
    return np.uint64((hash_ ^ np.uint64(byte)) * np.uint64(_FNV_FACTOR))


@numba.njit(nogil=True)
def _to_bucket(hash_: np.uint64, salt: int) -> int:  # pragma: no cover (compiled)
    mixed = np.uint64((hash_ ^ (hash_ >> np.uint64(29)) ^ np.uint64(salt)) * np.uint64(0xBF58476D1CE4E5B9))
    return int(mixed >> np.uint64(40)) & (N_BUCKETS - 1)


@numba.njit(cache=True, nogil=True)
def _hash_features(
    data: NDArray[np.uint8], starts: Offsets, lines: Offsets
) -> tuple[Buckets, Offsets]:  # pragma: no cover (compiled)
    """Return the buckets of each line, sorted and each once, and the offsets of the lines."""
    n_lines = len(lines) - 1
    offsets = np.zeros(n_lines + 1, np.int64)
    total = 0
    for word in range(len(starts) - 1):
        total += 3 + (MAX_GRAM - MIN_GRAM + 1) * (starts[word + 1] - starts[word] + 2)
    out = np.empty(total + LENGTH_FEATURES * n_lines, np.int32)
    at = 0
    for line in range(n_lines):
        begin = at
        previous, before = np.uint64(0), np.uint64(0)
        for word in range(lines[line], lines[line + 1]):
            start, stop = starts[word], starts[word + 1]
            hash_ = np.uint64(_FNV_START)
            for i in range(start, stop):
                hash_ = _mix(hash_, data[i])
            out[at] = _to_bucket(hash_, 1)
            at += 1
            if word > lines[line]:
                out[at] = _to_bucket(hash_ + previous * np.uint64(31), 2)
                at += 1
            if word > lines[line] + 1:
                out[at] = _to_bucket(hash_ + before * np.uint64(37), 3)
                at += 1
            before, previous = previous, hash_
            for i in range(start - 1, stop):
                if start <= i < stop and data[i] & 0xC0 == 0x80:
                    continue
                gram = np.uint64(_FNV_START)
                j, n = i, 0
                while j <= stop and n < MAX_GRAM:
                    gram = _mix(gram, 60 if j < start else 62 if j == stop else data[j])
                    j += 1
                    if start <= j < stop and data[j] & 0xC0 == 0x80:
                        continue
                    n += 1
                    if n >= MIN_GRAM and not (i < start and j > stop):
                        out[at] = _to_bucket(gram, 4)
                        at += 1
        n_words = lines[line + 1] - lines[line]
        if n_words:
            size = 0  # 1, 2, 3–4, 5–8, … words
            while (1 << size) < n_words:
                size += 1
            for copy in range(LENGTH_FEATURES):
                out[at] = _to_bucket(np.uint64(_FNV_START) + np.uint64(size), 5 + copy)
                at += 1
        row = np.unique(out[begin:at])
        out[begin : begin + len(row)] = row
        at = begin + len(row)
        offsets[line + 1] = at
    return out[:at].copy(), offsets
