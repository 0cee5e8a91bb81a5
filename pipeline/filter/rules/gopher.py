"""Gopher's rules over a column of texts: quality and repetition from one tokenization (Rae et al. 2021, table A1).

In: a column of texts. Out: one score per document and rule, defined in gopher_quality.py and gopher_repetition.py. The words of a
document are found and hashed once for all rules; scripts without spaces are cut into words (pipeline/filter/words/unspaced.py).
Time: 10 to 15 ns per byte. Memory: about 49 bytes per word of the longest document, and 64 for its hash table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.filter.rules.gopher_quality import SCORES, STOP_WORDS, measure_symbols, measure_words
from pipeline.filter.rules.gopher_repetition import (
    LINE_SCORES,
    compute_table_size,
    count_byte,
    measure_lines,
    measure_ngrams,
)
from pipeline.filter.words.char_flags import CharFlags, load_char_flags
from pipeline.filter.words.known_words import hash_words, load_known_words
from pipeline.filter.words.words import count_chars, cut_words
from pipeline.text.columns import Bytes, Fractions, Hashes, Offsets, Rows, to_utf8


def measure_gopher(
    texts: pa.StringArray, top_ngrams: Sequence[int] = (), dup_ngrams: Sequence[int] = (), top_ngram_from_count: int = 1
) -> pa.RecordBatch:
    """Return one row per document. `top_ngrams` and `dup_ngrams` list the n to measure."""
    names = [*SCORES, *LINE_SCORES]
    positions = np.full((2, max([0, *top_ngrams, *dup_ngrams]) + 1), -1, np.int64)
    for kind, (prefix, sizes) in enumerate((("top", top_ngrams), ("dup", dup_ngrams))):
        for n in sizes:
            positions[kind, n] = len(names)
            names.append(f"{prefix}_{n}gram_char_frac")
    scores = _measure_rows(
        *to_utf8(texts),
        load_char_flags(),
        *load_known_words(),
        _hash_stop_words(),
        positions[0],
        positions[1],
        top_ngram_from_count,
        len(names),
    )
    return pa.record_batch([pa.array(column) for column in scores.T.copy()], names=names)


@cache
def _hash_stop_words() -> Hashes:
    """Return the hashes of the stop words."""
    return hash_words(STOP_WORDS)


@numba.njit(cache=True, nogil=True)
def _measure_rows(
    data: Bytes,
    offsets: Offsets,
    table: CharFlags,
    known_keys: Hashes,
    pieces: npt.NDArray[np.uint32],
    stop_words: Hashes,
    tops: Rows,
    dups: Rows,
    from_count: int,
    n_scores: int,
) -> Fractions:  # pragma: no cover (compiled)
    """Return one row of `n_scores` scores per document."""
    n_rows = len(offsets) - 1
    out = np.zeros((n_rows, n_scores), np.float64)
    longest = 0
    for row in range(n_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    size = longest + 8  # only the part that holds words is touched, so only that takes memory
    starts, ends, positions, slots = (
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
    )
    hashes, chars, kinds = np.empty(size, np.uint64), np.empty(size, np.int64), np.empty(size, np.uint8)
    n_slots = 0
    keys, stamps = np.empty(0, np.uint64), np.zeros(0, np.int64)
    counts, firsts = np.empty(0, np.int64), np.empty(0, np.int64)
    stamp = 1
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        n_words = cut_words(data, start, stop, table, known_keys, pieces, starts, ends, hashes, chars, kinds)
        n_breaks = count_byte(data, start, stop, 10)
        wanted = compute_table_size(max(n_words, n_breaks + 2))
        if wanted > n_slots:
            n_slots = wanted
            keys, stamps = np.empty(wanted, np.uint64), np.zeros(wanted, np.int64)
            counts, firsts = np.empty(wanted, np.int64), np.empty(wanted, np.int64)
        measure_words(n_words, hashes, chars, kinds, stop_words, out[row])
        measure_symbols(data, start, stop, table, n_words, out[row])
        measure_lines(data, start, stop, table, keys, stamps, stamp, n_breaks, out[row, 7:11])
        stamp += 2
        n_chars = max(count_chars(data, start, stop), 1)
        measure_ngrams(
            n_words,
            hashes,
            chars,
            n_chars,
            from_count,
            tops,
            dups,
            keys,
            stamps,
            stamp,
            counts,
            firsts,
            positions,
            slots,
            out[row],
        )
        stamp += len(tops)
    return out
