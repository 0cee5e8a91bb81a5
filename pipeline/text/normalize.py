"""Normalize texts for comparison: fold case, compatibility characters and white space, then split into words.

In: an Arrow column of strings. Out: a column of the same length, in the same order. Time and memory are linear in the bytes of the
column; callers pass one batch at a time.

A word is a run of letters, combining marks and digits (and `_`), in lower case. In scripts without spaces between words (Han, kana,
Thai, Lao, Khmer, Burmese, Tibetan) every letter is a word, and so is every emoji, so that a shingle of n words covers a similar
amount of text in every script. Punctuation separates words. (Penedo et al. 2024, FineWeb, normalize words before hashing; the table
is ours.)
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import unicodedata

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.columns import Bytes, Offsets, from_utf8, to_utf8
from pipeline.text.letters import DIGIT, LETTER, build_char_classes, build_folded_points, decode, decode_any, encode

_SPACED = np.where(np.isin(np.arange(256), (9, 10, 11, 12, 13)), 32, np.arange(256)).astype(np.uint8)


def fold(texts: pa.StringArray) -> pa.StringArray:
    """Return the texts in NFKC and lower case. ASCII rows skip the Unicode tables; rows of characters that NFKC does not change,
    which are nearly all others, are lowered by one table (1.5 µs for 2 KB); Python processes the rest (8 µs).

    Arrow's own `utf8_normalize` decomposes for every form requested (25.0, apache/arrow#51225), and takes twice the time.
    """
    is_ascii = pc.string_is_ascii(texts)
    lowered = pc.ascii_lower(texts)
    if pc.all(is_ascii).as_py() is not False:
        return lowered
    is_other = pc.invert(is_ascii)
    others = texts.filter(is_other)
    data, offsets, is_done = _fold(*to_utf8(others), build_folded_points())
    folded = from_utf8(data, offsets)
    if not is_done.all():
        hard = others.filter(pa.array(~is_done)).to_pylist()
        folds = [unicodedata.normalize("NFKC", text).lower() for text in hard]
        folded = pc.replace_with_mask(folded, pa.array(~is_done), pa.array(folds, pa.string()))
    return pc.replace_with_mask(lowered, is_other, folded)


def squeeze(folded: pa.StringArray) -> pa.StringArray:
    """Collapse each run of white space to one space, and strip both ends: documents with equal results are exact duplicates."""
    data, offsets = to_utf8(folded)
    return from_utf8(*_squeeze(data, offsets, _SPACED))


def split_words(folded: pa.StringArray) -> pa.StringArray:
    """Return the words of each row, separated by one space."""
    data, offsets = to_utf8(folded)
    classes = build_char_classes()
    is_letter = np.isin(classes[:128], (LETTER, DIGIT))
    kept = np.where(is_letter, np.arange(128), 32).astype(np.uint8)
    return from_utf8(*_split_words(data, offsets, classes, kept))


@numba.njit(cache=True, nogil=True)
def _fold(
    data: Bytes, offsets: Offsets, folded: npt.NDArray[np.int32]
) -> tuple[Bytes, Offsets, npt.NDArray[np.bool_]]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    size = offsets[n_rows] - offsets[0]
    out = np.empty(size + size // 2 + 8, np.uint8)  # at worst 2 bytes become 3
    ends = np.zeros(n_rows + 1, np.int64)
    is_done = np.ones(n_rows, np.bool_)
    one = np.uint64(1)
    n = np.uint64(0)
    for row in range(n_rows):
        first = n
        i, stop = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
        while i < stop:
            byte = data[i]
            if byte < 128:
                out[n] = byte + np.uint8(32) if np.uint8(byte - np.uint8(65)) < 26 else byte
                n += one
                i += one
                continue
            point, width = decode_any(data, i)
            lower = folded[point] if point < len(folded) else np.int32(-1)
            if lower < 0:
                is_done[row] = False
                n = first
                break
            n += np.uint64(encode(int(lower), out, n))
            i += np.uint64(width)
        ends[row + 1] = n
    return out[:n], ends, is_done


# The two kernels below do not branch on the text: which byte starts or ends a word is unpredictable, and 600 mispredictions in a
# document of 300 words cost more than all the rest. Every byte is written; the end advances only past bytes that are kept.
# Indices are unsigned, so that Numba does not check for negative ones (wraparound): 0.7 instead of 1.8 µs for 2 KB.


@numba.njit(cache=True, nogil=True)
def _squeeze(data: Bytes, offsets: Offsets, spaced: Bytes) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    out = np.empty(offsets[n_rows] - offsets[0] + 1, np.uint8)
    ends = np.zeros(n_rows + 1, np.int64)
    n = np.int64(0)
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        size = stop - start
        row_in, row_out = data[start:stop], out[n : n + size]  # indexed from 0, so that these loops are vectorized
        n_double = np.int64(0)  # most texts have none, i.e. every gap is one byte, and are done after this loop
        for i in range(size):
            byte = row_in[i]
            row_out[i] = np.uint8(32) if (byte == 32) | (np.uint8(byte - np.uint8(9)) < 5) else byte
        left, right = row_out[:-1], row_out[1:]
        for i in range(size - 1):
            n_double += (left[i] == 32) & (right[i] == 32)
        if size and n_double == 0 and row_out[0] != 32 and row_out[size - 1] != 32:
            n += size
            ends[row + 1] = n
            continue
        end = np.uint64(n)
        was_gap = np.uint64(1)
        for i in range(np.uint64(start), np.uint64(stop)):
            byte = spaced[data[i]]
            out[end] = byte
            is_gap = np.uint64(byte == 32)
            end += np.uint64(1) - (is_gap & was_gap)
            was_gap = is_gap
        n = np.int64(end) - 1 if np.int64(end) > n and was_gap else np.int64(end)
        ends[row + 1] = n
    return out[:n], ends


@numba.njit(nogil=True)
def _split_ascii(
    data: Bytes, start: int, stop: int, kept: Bytes, out: Bytes, n: np.int64
) -> np.int64:  # pragma: no cover (compiled)
    """Write the words of one ASCII row, in which no letter is a word of its own, from `out[n]` on; return their end."""
    end = np.uint64(n)
    was_letter = np.uint64(0)
    for i in range(np.uint64(start), np.uint64(stop)):
        byte = kept[data[i]]
        out[end] = byte
        is_letter = np.uint64(byte != 32)
        end += is_letter | was_letter
        was_letter = is_letter
    return np.int64(end) - 1 if np.int64(end) > n and not was_letter else np.int64(end)


@numba.njit(nogil=True)
def _split_any(
    data: Bytes, start: int, stop: int, classes: Bytes, kept: Bytes, out: Bytes, n: np.int64
) -> np.int64:  # pragma: no cover (compiled)
    """Write the words of any row: ASCII as above, other code points one by one."""
    end = np.uint64(n)
    one = np.uint64(1)
    was_letter = np.uint64(0)  # the last word may continue
    i, last = np.uint64(start), np.uint64(stop)
    while i < last:
        byte = data[i]
        if byte < 128:
            out[end] = kept[byte]
            is_letter = np.uint64(kept[byte] != 32)
            end += is_letter | was_letter
            was_letter = is_letter
            i += one
            continue
        point, width = decode(data, i)
        kind = classes[point]
        continues = kind in (LETTER, DIGIT)
        if was_letter and not continues:
            out[end] = 32
            end += one
        was_letter = np.uint64(continues)
        if continues or kind > DIGIT:
            for j in range(np.uint64(width)):
                out[end + j] = data[i + j]
            end += np.uint64(width)
            if not continues:  # a word of its own
                out[end] = 32
                end += one
        i += np.uint64(width)
    return np.int64(end) - 1 if np.int64(end) > n and not was_letter else np.int64(end)


@numba.njit(cache=True, nogil=True)
def _split_words(
    data: Bytes, offsets: Offsets, classes: Bytes, kept: Bytes
) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    size = offsets[n_rows] - offsets[0]
    out = np.empty(size + size // 2 + 2, np.uint8)  # at worst 4 bytes (an ASCII letter, a one-letter word) become 6
    ends = np.zeros(n_rows + 1, np.int64)
    n = np.int64(0)
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        bits = np.uint8(0)
        row_in = data[start:stop]
        for i in range(len(row_in)):
            bits |= row_in[i]
        is_ascii = bits < 128
        n = (
            _split_ascii(data, start, stop, kept, out, n)
            if is_ascii
            else _split_any(data, start, stop, classes, kept, out, n)
        )
        ends[row + 1] = n
    return out[:n], ends
