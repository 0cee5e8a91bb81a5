"""FineWeb's own rules as scores: is this prose, or a list, a menu, a repeated notice? (Penedo et al. 2024, section 3.6)

In: a column of texts. Out: one score per document and rule. Lines are separated by newlines; blank ones do not count.

- `punctuated_line_frac`: lines whose last character ends a sentence (Unicode's Sentence_Terminal; a space after it hides it).
- `short_line_frac`: lines of at most `short_line_chars` code points.
- `repeated_line_char_frac`: characters in lines that occurred before, as a fraction of all characters but newlines.
- `newline_word_frac`: newlines per word as pipeline/filter/words/words.py finds them, where separate punctuation counts as a word.

Definitions are datatrove's; a text without lines has 0 everywhere and is dropped by `punctuated_line_frac`. Time: about 6 ns per
byte, 1 ns if the words are counted already. Memory: 33 bytes per word of the longest document.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.filter.rules.gopher_repetition import compute_table_size, count_byte, insert_key
from pipeline.filter.words.affixes import find_previous_char
from pipeline.filter.words.char_flags import ENDS_LINE, CharFlags, load_char_flags
from pipeline.filter.words.known_words import hash_word, load_known_words
from pipeline.filter.words.words import count_chars, cut_words, strip_whitespace
from pipeline.text.columns import Bytes, Fractions, Hashes, Offsets, to_utf8
from pipeline.text.compiled import decode, find_newline

SCORES = ("punctuated_line_frac", "short_line_frac", "repeated_line_char_frac", "newline_word_frac")


def measure_fineweb(
    texts: pa.StringArray, short_line_chars: int = 30, words: pa.DoubleArray | None = None
) -> pa.RecordBatch:
    """Return the columns `SCORES`, one row per document. `words` is the number of words of each document, if known."""
    counts = np.zeros(0, np.float64) if words is None else words.to_numpy()
    scores = _measure_rows(*to_utf8(texts), load_char_flags(), *load_known_words(), short_line_chars, counts)
    return pa.record_batch([pa.array(column) for column in scores.T.copy()], names=list(SCORES))


@numba.njit(cache=True, nogil=True)
def _measure_rows(
    data: Bytes,
    offsets: Offsets,
    table: CharFlags,
    known_keys: Hashes,
    pieces: npt.NDArray[np.uint32],
    short_line_chars: int,
    counts: Fractions,
) -> Fractions:  # pragma: no cover (compiled)
    """Return one row of `SCORES` per document."""
    n_rows = len(offsets) - 1
    out = np.zeros((n_rows, 4), np.float64)
    longest = 0
    for row in range(n_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    starts, ends, chars = (
        np.empty(longest + 8, np.int64),
        np.empty(longest + 8, np.int64),
        np.empty(longest + 8, np.int64),
    )
    hashes, kinds = np.empty(longest + 8, np.uint64), np.empty(longest + 8, np.uint8)
    keys, stamps = np.empty(0, np.uint64), np.zeros(0, np.int64)
    for row in range(n_rows):
        start, stop = offsets[row], offsets[row + 1]
        n_breaks = count_byte(data, start, stop, 10)
        size = compute_table_size(n_breaks + 1)
        if size > len(keys):
            keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int64)
        n_lines, n_punctuated, n_short, n_repeated = 0, 0, 0, 0
        i = start
        while i <= stop:
            line = i
            i = find_newline(data, i, stop)
            first, last = strip_whitespace(data, line, i, table)
            if first < last:
                n_chars = count_chars(data, line, i)
                n_lines += 1
                n_punctuated += table[decode(data, find_previous_char(data, i))[0]] & ENDS_LINE != 0
                n_short += n_chars <= short_line_chars
                if not insert_key(keys, stamps, row + 1, np.uint64(size - 1), hash_word(data, line, i)):
                    n_repeated += n_chars
            i += 1
        if n_lines:
            if len(counts):
                n_words = int(counts[row])
            else:
                n_words = cut_words(data, start, stop, table, known_keys, pieces, starts, ends, hashes, chars, kinds)
            out[row, 0] = n_punctuated / n_lines
            out[row, 1] = n_short / n_lines
            out[row, 2] = n_repeated / (count_chars(data, start, stop) - n_breaks)
            out[row, 3] = n_breaks / max(n_words, 1)
    return out
