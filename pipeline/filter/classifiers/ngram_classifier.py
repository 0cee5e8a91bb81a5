"""Predict with fastText models in compiled code: the probability of every label, without a Python object per line.

In: the matrices and the vocabulary of a fastText classifier (softmax, not quantized), and a column of lines. Out: one row per line,
one column per label. A line is the mean of the rows of its words, their character n-grams and its word n-grams, times the output
matrix (Joulin et al. 2016, Bojanowski et al. 2017). Hashes and order are fastText's, and so are the probabilities, except for
rounding and the 1e-5 that fastText adds to each. A line without words has zeros everywhere.

Three ideas make it faster than fastText. The n-grams of a vocabulary word are summed once, when the model is loaded. The sum of an
unknown word is cached until another word needs its slot. With fewer labels than dimensions, the input matrix is multiplied by the
output matrix once, so that a row is only as wide as there are labels. Time: linear in bytes. Memory: the matrices, `N_KEPT` sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.columns import Bytes, Fractions, Hashes, Offsets, Rows, to_utf8

END = "</s>"  # fastText's word for the end of a line
N_KEPT = 1 << 14  # 1 MB at 16 dimensions, the L2 cache of most cores
FNV_START, FNV_FACTOR, NGRAM_FACTOR = 2166136261, 16777619, 116049371  # fastText's
KEY_START, KEY_FACTOR = 0xCBF29CE484222325, 0x9E3779B97F4A7C15  # of the 64-bit keys of words in our tables

Floats = npt.NDArray[np.float32]


class Classifier(NamedTuple):
    """A fastText model as arrays.

    `rows` holds one sum of `counts` rows per word, then the hashed n-grams. `keys` and `word_rows` are an open-addressing hash
    table of the words.
    """

    labels: tuple[str, ...]
    rows: Floats
    counts: Rows
    output: Floats
    keys: Hashes
    word_rows: Rows
    n_words: int
    end_row: int
    n_buckets: int
    char_ngrams: tuple[int, int]
    word_ngrams: int

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]:
        """Return for each line the most probable label and the total probability of the wanted ones; "" and 0 without words."""
        chances = predict(self, lines)
        best = np.where(chances.any(axis=1), chances.argmax(axis=1), len(self.labels))
        columns = [index for index, label in enumerate(self.labels) if label in wanted]
        return pa.array([*self.labels, ""], pa.string()).take(pa.array(best)), chances[:, columns].sum(axis=1)


def make_classifier(
    words: Sequence[str],
    labels: Sequence[str],
    rows: Floats,
    output: Floats,
    *,
    n_buckets: int,
    char_ngrams: tuple[int, int],
    word_ngrams: int,
) -> Classifier:
    """Return the arrays that `predict` reads from the contents of a fastText model. Words are in the order of their rows."""
    if len(labels) < rows.shape[1]:
        rows, output = rows @ output.T, np.eye(len(labels), dtype=np.float32)
    data, offsets = to_utf8(pa.array(list(words), pa.string()))
    keys, word_rows = _build_table(data, offsets)
    end_row = words.index(END) if END in words else -1
    rows = np.array(rows, np.float32, order="C")
    counts = _sum_words(data, offsets, rows, (len(words), max(n_buckets, 1), *char_ngrams), end_row)
    return Classifier(
        tuple(labels),
        rows,
        counts,
        np.ascontiguousarray(output, np.float32),
        keys,
        word_rows,
        len(words),
        end_row,
        max(n_buckets, 1),
        char_ngrams,
        word_ngrams,
    )


def predict(model: Classifier, lines: pa.StringArray) -> Fractions:
    """Return the probability of each label, one row per line. Words are separated by spaces."""
    data, offsets = to_utf8(lines)
    end = np.frombuffer(END.encode(), np.uint8)
    return _predict(
        data,
        offsets,
        model.rows,
        model.counts,
        model.output,
        model.keys,
        model.word_rows,
        (
            model.n_words,
            model.n_buckets,
            *model.char_ngrams,
            model.word_ngrams,
            model.end_row,
            int(_hash(end, 0, len(end))),
        ),
    )


@numba.njit(nogil=True)
def _mix(key: np.uint64, byte: int) -> np.uint64:  # pragma: no cover (compiled)
    """Return the key of a word extended by one byte."""
    return np.uint64((key ^ np.uint64(byte)) * np.uint64(KEY_FACTOR))


@numba.njit(nogil=True)
def _compute_slot(key: np.uint64, n_slots: int) -> int:  # pragma: no cover (compiled)
    """Return the preferred slot of a key in a table whose size is a power of two."""
    return int(((key ^ (key >> np.uint64(32))) * np.uint64(KEY_FACTOR)) >> np.uint64(33)) & (n_slots - 1)


@numba.njit(nogil=True)
def _update_fnv(total: np.uint32, byte: int) -> np.uint32:  # pragma: no cover (compiled)
    """Return fastText's hash extended by one byte: FNV-1a over signed bytes."""
    signed = np.uint32(byte) if byte < 128 else np.uint32(0xFFFFFF00) | np.uint32(byte)
    return np.uint32((total ^ signed) * np.uint32(FNV_FACTOR))


@numba.njit(cache=True, nogil=True)
def _hash(data: Bytes, start: int, stop: int) -> np.uint32:  # pragma: no cover (compiled)
    """Return fastText's hash of a word."""
    total = np.uint32(FNV_START)
    for i in range(start, stop):
        total = _update_fnv(total, int(data[i]))
    return total


@numba.njit(cache=True, nogil=True)
def _build_table(data: Bytes, offsets: Offsets) -> tuple[Hashes, Rows]:  # pragma: no cover (compiled)
    """Return keys and row numbers of the words in a hash table that is at most half full."""
    n_slots = 16
    while n_slots < 2 * len(offsets):
        n_slots *= 2
    keys, word_rows = np.zeros(n_slots, np.uint64), np.full(n_slots, -1, np.int64)
    for word in range(len(offsets) - 1):
        key = np.uint64(KEY_START)
        for i in range(offsets[word], offsets[word + 1]):
            key = _mix(key, int(data[i]))
        slot = _compute_slot(key, n_slots)
        while keys[slot]:
            slot = (slot + 1) & (n_slots - 1)
        keys[slot], word_rows[slot] = key, word
    return keys, word_rows


@numba.njit(cache=True, nogil=True)
def _sum_words(
    data: Bytes, offsets: Offsets, rows: Floats, sizes: tuple[int, ...], end_row: int
) -> Rows:  # pragma: no cover (compiled)
    """Add its character n-grams to the row of each word in place. Return the number of rows in each sum."""
    counts = np.ones(len(offsets) - 1, np.int64)
    for word in range(len(counts)):
        if word != end_row:
            counts[word] += _add_ngrams(data, offsets[word], offsets[word + 1], rows, sizes, rows[word])
    return counts


@numba.njit(nogil=True)
def _add_ngrams(
    data: Bytes, start: int, stop: int, rows: Floats, sizes: tuple[int, ...], total: Floats
) -> int:  # pragma: no cover (compiled)
    """Add the rows of a word's character n-grams to `total`. Return their number."""
    n_words, n_buckets, shortest, longest = sizes[0], sizes[1], sizes[2], sizes[3]
    n_added, dim = 0, rows.shape[1]
    if longest <= 0:
        return 0
    first, last = start - 1, stop + 1  # including < before and > after the word
    for i in range(first, last):
        if start <= i < stop and data[i] & 0xC0 == 0x80:
            continue
        narrow, j, n = np.uint32(FNV_START), i, 1
        while j < last and n <= longest:
            while True:  # the bytes of one character
                byte = 60 if j < start else 62 if j >= stop else int(data[j])
                narrow = _update_fnv(narrow, byte)
                j += 1
                if not (start <= j < stop and data[j] & 0xC0 == 0x80):
                    break
            if n >= shortest and not (n == 1 and (i == first or j == last)):
                index = n_words + np.int64(narrow) % n_buckets
                for d in range(dim):
                    total[d] += rows[index, d]
                n_added += 1
            n += 1
    return n_added


@numba.njit(nogil=True)
def _find_row(key: np.uint64, keys: Hashes, word_rows: Rows) -> int:  # pragma: no cover (compiled)
    """Return the row of the word with this key, or -1 if it is not in the vocabulary."""
    slot = _compute_slot(key, len(keys))
    while keys[slot] and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return word_rows[slot]


@numba.njit(nogil=True)
def _add_word_ngrams(
    recent: Hashes, n_seen: int, wide: np.uint64, rows: Floats, sizes: tuple[int, ...], line: Floats
) -> int:  # pragma: no cover (compiled)
    """Add the rows of the word n-grams that end with the word of hash `wide`. Return their number."""
    n_words, n_buckets, longest = sizes[0], sizes[1], sizes[4]
    n_added = min(longest - 1, n_seen)
    for n in range(n_added):
        gram = recent[(n_seen - 1 - n) % longest]
        for k in range(n_seen - n, n_seen):
            gram = gram * np.uint64(NGRAM_FACTOR) + recent[k % longest]
        gram = gram * np.uint64(NGRAM_FACTOR) + wide
        index = n_words + np.int64(gram % np.uint64(n_buckets))
        for d in range(len(line)):
            line[d] += rows[index, d]
    return n_added


@numba.njit(cache=True, nogil=True)
def _predict(
    data: Bytes,
    offsets: Offsets,
    rows: Floats,
    counts: Rows,
    output: Floats,
    keys: Hashes,
    word_rows: Rows,
    sizes: tuple[int, ...],
) -> Fractions:  # pragma: no cover (compiled)
    """Return the probabilities, one row per line."""
    longest, end_row = sizes[4], sizes[5]
    dim, n_labels, n_rows = rows.shape[1], output.shape[0], len(offsets) - 1
    out = np.zeros((n_rows, n_labels), np.float64)
    kept_keys, kept_counts = np.zeros(N_KEPT, np.uint64), np.zeros(N_KEPT, np.int64)
    kept, kept_hashes = np.empty((N_KEPT, dim), np.float32), np.zeros(N_KEPT, np.uint32)
    line, recent = np.empty(dim, np.float32), np.zeros(max(longest, 1), np.uint64)  # hashes of the last words
    for row in range(n_rows):
        n_added, n_seen, i, stop = 0, 0, offsets[row], offsets[row + 1]
        line[:] = 0
        while i <= stop:
            start, key = i, np.uint64(KEY_START)
            while i < stop and data[i] != 32:
                key = _mix(key, int(data[i]))
                i += 1
            if i == start and i < stop:
                i += 1
                continue
            if i == start:  # the end of the line is a word too, if there are other words
                if n_seen == 0:
                    break
                narrow = np.uint32(sizes[6])
                if end_row >= 0:
                    for d in range(dim):
                        line[d] += rows[end_row, d]
                    n_added += 1
                i += 1
            else:
                at = _compute_slot(key, N_KEPT)
                if kept_keys[at] != key:
                    kept_keys[at], kept_hashes[at] = key, _hash(data, start, i)
                    index = _find_row(key, keys, word_rows)
                    if index >= 0:
                        kept[at], kept_counts[at] = rows[index], counts[index]
                    else:
                        kept[at] = 0
                        kept_counts[at] = _add_ngrams(data, start, i, rows, sizes, kept[at])
                for d in range(dim):
                    line[d] += kept[at, d]
                n_added += kept_counts[at]
                narrow = kept_hashes[at]
            wide = np.uint64(np.int64(np.int32(narrow)))  # fastText stores hashes as signed integers
            if longest > 1:  # an empty call would cost a third of the time
                n_added += _add_word_ngrams(recent, n_seen, wide, rows, sizes, line)
            recent[n_seen % len(recent)] = wide
            n_seen += 1
        if n_added:
            _apply_softmax(line, np.float32(1.0) / np.float32(n_added), output, out[row])
    return out


@numba.njit(nogil=True)
def _apply_softmax(
    line: Floats, scale: np.float32, output: Floats, out: Fractions
) -> None:  # pragma: no cover (compiled)
    """Write the softmax of the scaled line times `output` to `out`."""
    for label in range(len(out)):
        total = 0.0
        for d in range(len(line)):
            total += line[d] * scale * output[label, d]
        out[label] = total
    largest = out.max()
    for label in range(len(out)):
        out[label] = np.exp(out[label] - largest)
    out /= out.sum()
