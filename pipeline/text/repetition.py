"""Gopher's repetition rules as columns of figures: does the text say the same thing again and again? (Rae et al. 2021, table A1)

In: a column of texts. Out: one fraction a document and rule, named as its parameter is without the `max_`. Words, lines and
paragraphs are hashed once (XXH64), n-grams are rolling hashes of word hashes: linear time, about 100 ns a word for
all nine n. Memory: a hash table of two slots a word of the longest document.

- `dup_line_frac`: lines that occurred before, of all lines; `dup_line_char_frac`: their characters, of all characters of the
  text. The same for paragraphs (runs of lines between blank ones). Blank lines count for neither.
- `top_{n}gram_char_frac`: the commonest n-gram's characters (words and one space between) times its count, of the text's. Where
  several are equally common the first one counts. One that occurs once is no repetition: 0. (Taking it, as some do, drops
  every short text.)
- `dup_{n}gram_char_frac`: walking through the words, an n-gram seen before adds its words' characters and is stepped over; any
  other is remembered and the walk goes on one word further.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.columns import Bytes, Hashes, Offsets, Rows, to_utf8
from pipeline.text.hashing import xxh64
from pipeline.text.letters import SPACE, decode, letter_classes

Figures = npt.NDArray[np.float64]
LINE_FIGURES = ("dup_line_frac", "dup_line_char_frac", "dup_paragraph_frac", "dup_paragraph_char_frac")

_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the rolling hash: odd, bits well mixed


def repetition(texts: pa.StringArray, top_ngrams: Sequence[int], dup_ngrams: Sequence[int]) -> pa.RecordBatch:
    """One row a document. `top_ngrams`, `dup_ngrams`: the n to look at."""
    data, offsets = to_utf8(texts)
    lines = _repeated_lines(data, offsets)
    ngrams = _repeated_ngrams(
        data, offsets, letter_classes(), np.array(top_ngrams, np.int64), np.array(dup_ngrams, np.int64)
    )
    names = [
        *LINE_FIGURES,
        *(f"top_{n}gram_char_frac" for n in top_ngrams),
        *(f"dup_{n}gram_char_frac" for n in dup_ngrams),
    ]
    columns = [*lines.T.copy(), *ngrams.T.copy()]
    return pa.record_batch([pa.array(column) for column in columns], names=names)


@numba.njit(nogil=True)
def _slot(keys: Hashes, stamps: Rows, stamp: int, key: np.uint64) -> int:  # pragma: no cover (compiled)
    """Where `key` is in the open table of this `stamp`, or the free slot where it belongs. The size is a power of two."""
    mask = np.uint64(len(keys) - 1)
    at = (key ^ (key >> np.uint64(32))) & mask
    while stamps[at] == stamp and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return int(at)


@numba.njit(nogil=True)
def _is_first(keys: Hashes, stamps: Rows, stamp: int, key: np.uint64) -> bool:  # pragma: no cover (compiled)
    """Adds the key; False if it was there."""
    at = _slot(keys, stamps, stamp, key)
    if stamps[at] == stamp:
        return False
    keys[at], stamps[at] = key, stamp
    return True


@numba.njit(nogil=True)
def _table_size(n_items: int) -> int:  # pragma: no cover (compiled)
    size = 16
    while size < 2 * n_items:
        size *= 2
    return size


@numba.njit(nogil=True)
def _count_chars(data: Bytes, start: int, stop: int) -> int:  # pragma: no cover (compiled)
    n = 0
    for i in range(start, stop):
        n += (data[i] & 0xC0) != 0x80
    return n


@numba.njit(cache=True, nogil=True)
def _repeated_lines(data: Bytes, offsets: Offsets) -> Figures:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    out = np.zeros((n_rows, 4), np.float64)
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        n_breaks = 1
        for i in range(start, stop):
            n_breaks += data[i] == 10
        keys = np.empty(_table_size(2 * n_breaks), np.uint64)
        stamps = np.zeros(len(keys), np.int64)
        n_lines, dup_lines, dup_line_chars = 0, 0, 0
        n_paragraphs, dup_paragraphs, dup_paragraph_chars = 0, 0, 0
        paragraph, paragraph_stop = -1, -1  # -1: none is open
        i = start
        while i <= stop:
            line, is_blank = i, True
            while i < stop and data[i] != 10:
                is_blank = is_blank and (data[i] == 32 or 9 <= data[i] <= 13)
                i += 1
            if not is_blank:
                n_lines += 1
                if not _is_first(keys, stamps, 1, xxh64(data, line, i)):
                    dup_lines += 1
                    dup_line_chars += _count_chars(data, line, i)
                paragraph = line if paragraph < 0 else paragraph
                paragraph_stop = i
            if paragraph >= 0 and (is_blank or i >= stop):
                n_paragraphs += 1
                # Lines and paragraphs share the table: a paragraph's key is changed, so that its only line is no copy of it.
                if not _is_first(keys, stamps, 1, ~xxh64(data, paragraph, paragraph_stop)):
                    dup_paragraphs += 1
                    dup_paragraph_chars += _count_chars(data, paragraph, paragraph_stop)
                paragraph = -1
            i += 1
        n_chars = max(_count_chars(data, start, stop), 1)
        out[row, 0] = dup_lines / max(n_lines, 1)
        out[row, 1] = dup_line_chars / n_chars
        out[row, 2] = dup_paragraphs / max(n_paragraphs, 1)
        out[row, 3] = dup_paragraph_chars / n_chars
    return out


@numba.njit(cache=True, nogil=True)
def _repeated_ngrams(
    data: Bytes, offsets: Offsets, classes: Bytes, top_ngrams: Rows, dup_ngrams: Rows
) -> Figures:  # pragma: no cover (compiled)
    n_rows, n_top = len(offsets) - 1, len(top_ngrams)
    out = np.zeros((n_rows, n_top + len(dup_ngrams)), np.float64)
    for row in range(n_rows):
        rolled, chars = _roll(data, offsets[row], offsets[row + 1], classes)
        n_words = len(rolled) - 1
        n_chars = max(_count_chars(data, offsets[row], offsets[row + 1]), 1)
        size = _table_size(n_words)
        keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int64)
        counts, firsts = np.empty(size, np.int64), np.empty(size, np.int64)
        for k in range(n_top):
            out[row, k] = min(_top(top_ngrams[k], rolled, chars, keys, stamps, k + 1, counts, firsts) / n_chars, 1.0)
        for k in range(len(dup_ngrams)):
            out[row, n_top + k] = _dup(dup_ngrams[k], rolled, chars, keys, stamps, n_top + k + 1) / n_chars
    return out


@numba.njit(nogil=True)
def _roll(data: Bytes, start: int, stop: int, classes: Bytes) -> tuple[Hashes, Rows]:  # pragma: no cover (compiled)
    """Running hash and running count of characters after each word, from 0 words on."""
    n_words, is_open = 0, False
    i = start
    while i < stop:
        point, width = decode(data, i)
        is_space = classes[point] == SPACE
        n_words += not is_space and not is_open
        is_open = not is_space
        i += width
    rolled, chars = np.zeros(n_words + 1, np.uint64), np.zeros(n_words + 1, np.int64)
    i, word = start, 0
    while word < n_words:
        point, width = decode(data, i)
        if classes[point] == SPACE:
            i += width
            continue
        first, n = i, 0
        while i < stop and classes[point] != SPACE:
            i += width
            n += 1
            if i < stop:
                point, width = decode(data, i)
        rolled[word + 1] = rolled[word] * _BASE + xxh64(data, first, i)
        chars[word + 1] = chars[word] + n
        word += 1
    return rolled, chars


@numba.njit(nogil=True)
def _power(n: int) -> np.uint64:  # pragma: no cover (compiled)
    power = np.uint64(1)
    for _ in range(n):
        power *= _BASE
    return power


@numba.njit(nogil=True)
def _top(
    n: int, rolled: Hashes, chars: Rows, keys: Hashes, stamps: Rows, stamp: int, counts: Rows, firsts: Rows
) -> int:  # pragma: no cover (compiled)
    """Characters of the commonest n-gram, all its occurrences together."""
    shift = _power(n)
    most, earliest = 1, 0
    for i in range(len(rolled) - n):
        key = rolled[i + n] - rolled[i] * shift
        at = _slot(keys, stamps, stamp, key)
        if stamps[at] != stamp:
            keys[at], stamps[at], counts[at], firsts[at] = key, stamp, 0, i
        counts[at] += 1
        if counts[at] > most or (counts[at] == most and firsts[at] < earliest):
            most, earliest = counts[at], firsts[at]
    if most == 1:
        return 0
    return most * (chars[earliest + n] - chars[earliest] + n - 1)


@numba.njit(nogil=True)
def _dup(
    n: int, rolled: Hashes, chars: Rows, keys: Hashes, stamps: Rows, stamp: int
) -> int:  # pragma: no cover (compiled)
    """Characters of n-grams that were seen before, none counted twice."""
    shift = _power(n)
    repeated = 0
    i = 0
    while i + n < len(rolled):
        if _is_first(keys, stamps, stamp, rolled[i + n] - rolled[i] * shift):
            i += 1
        else:
            repeated += chars[i + n] - chars[i]
            i += n
    return repeated
