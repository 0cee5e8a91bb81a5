"""Gopher's quality rules as columns of figures: is this a text at all? (Rae et al. 2021, table A1)

In: a column of texts. Out: one figure a document and rule, named as its parameter is without the `min_` or `max_`. One pass
over the bytes, compiled.

Where the paper leaves room: a word is a run of non-space, its length is all its code points; a text without words has 0
everywhere; symbols are `#` or ellipses (`...`, `…`), whichever is commoner; a bullet is `•`, `‣`, `*` or `-` that stands alone at
the start of a line (so a rule of dashes is none); blank lines do not count; stop words count once each, in any case, without the
punctuation around them. The `...` at the start of a doctest line is a prompt, no ellipsis.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.columns import Bytes, Hashes, Offsets, to_utf8
from pipeline.text.letters import LETTER, SOLO, SPACE, SYMBOL, decode, letter_classes

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
FIGURES = (
    "words",
    "mean_word_chars",
    "symbol_word_frac",
    "bullet_line_frac",
    "ellipsis_line_frac",
    "alpha_word_frac",
    "stop_words",
)


def quality(texts: pa.StringArray) -> pa.RecordBatch:
    """One column of `FIGURES` each, one row a document."""
    data, offsets = to_utf8(texts)
    stop_words = np.array([int.from_bytes(word.encode(), "little") for word in STOP_WORDS], np.uint64)
    figures = _quality(data, offsets, letter_classes(), stop_words)
    return pa.record_batch([pa.array(column) for column in figures.T.copy()], names=list(FIGURES))


@numba.njit(cache=True, nogil=True)
def _quality(
    data: Bytes, offsets: Offsets, classes: Bytes, stop_words: Hashes
) -> npt.NDArray[np.float64]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    out = np.zeros((n_rows, 7), np.float64)
    for row in range(n_rows):
        n_words, n_chars, n_alpha, n_hashes, n_ellipses = 0, 0, 0, 0, 0
        n_lines, n_bullets, n_trailing = 0, 0, 0
        stop_words_seen = 0  # one bit each
        is_line_open = False  # the line has a word
        is_trailing = False  # the line's last word ends in an ellipsis
        i, stop = offsets[row], offsets[row + 1]
        while i < stop:
            point, width = decode(data, i)
            if classes[point] == SPACE:
                if point == 10:
                    n_trailing += is_trailing
                    is_line_open, is_trailing = False, False
                i += width
                continue
            start, chars, dots, ellipses, has_alpha = i, 0, 0, 0, False
            first, final = point, point
            while i < stop:
                point, width = decode(data, i)
                kind = classes[point]
                if kind == SPACE:
                    break
                chars, final = chars + 1, point
                has_alpha = has_alpha or kind in (LETTER, SOLO)
                n_hashes += point == 35
                dots = dots + 1 if point == 46 else 0
                if dots == 3 or point == 0x2026:
                    ellipses += 1
                    dots = 0
                i += width
            is_prompt = not is_line_open and chars == 3 and ellipses == 1
            is_dotted = i - start >= 3 and data[i - 1] == 46 and data[i - 2] == 46 and data[i - 3] == 46
            is_trailing = (is_dotted or final == 0x2026) and not is_prompt
            n_ellipses += 0 if is_prompt else ellipses
            if not is_line_open:
                n_lines += 1
                n_bullets += chars == 1 and (first in (0x2022, 0x2023, 42, 45))
                is_line_open = True
            n_words += 1
            n_chars += chars
            n_alpha += has_alpha
            left, right = start, i
            while left < right and data[left] < 128 and (classes[data[left]] == SYMBOL or data[left] == 95):
                left += 1
            while (
                left < right and data[right - 1] < 128 and (classes[data[right - 1]] == SYMBOL or data[right - 1] == 95)
            ):
                right -= 1
            if 2 <= right - left <= 4:
                code = np.uint64(0)
                for j in range(right - left):
                    code |= np.uint64(data[left + j] | 32) << np.uint64(8 * j)
                for k in range(len(stop_words)):
                    if code == stop_words[k]:
                        stop_words_seen |= 1 << k
        n_trailing += is_trailing
        if n_words:
            n_stop_words = 0
            while stop_words_seen:
                n_stop_words += stop_words_seen & 1
                stop_words_seen >>= 1
            out[row, 0] = n_words
            out[row, 1] = n_chars / n_words
            out[row, 2] = max(n_hashes, n_ellipses) / n_words
            out[row, 3] = n_bullets / n_lines
            out[row, 4] = n_trailing / n_lines
            out[row, 5] = n_alpha / n_words
            out[row, 6] = n_stop_words
    return out
