"""Gopher's quality rules as scores of one text: is this natural text at all? (Rae et al. 2021, table A1)

In: the bytes of a text and its words (pipeline/filter/words/words.py). Out: one score per rule, named like its parameter without
`min_` or `max_`. Compiled; pipeline/filter/rules/gopher.py runs it over columns.

Where the paper is ambiguous, datatrove's interpretation is used, so that decisions agree:
- `words`: words with anything but punctuation; `mean_word_chars`: their mean length in code points. A text without words has 0
  everywhere. A word cut from a script without spaces (words/unspaced.py) counts as `CUT_CHARS` long, whatever its length:
  that is our choice, not the text's, and 1.6 code points of Han are no sign of garbage.
- `symbol_word_frac`: `#` or ellipses (`...`, `…`), whichever are more, per word, where separate punctuation counts as a word;
  `alpha_word_frac`: the fraction of the same words that have a letter.
- `bullet_line_frac`: lines that start with `•` or `-`; `ellipsis_line_frac`: lines that end in an ellipsis; surrounding white space
  is ignored, blank lines count.
- `stop_words`: how many of the eight occur, in lower case.
"""

from __future__ import annotations

from pipeline.filter.words.char_flags import BREAKS_LINE, SPACE, CharFlags
from pipeline.filter.words.words import HAS_LETTER, IS_CUT, IS_WORDY
from pipeline.text.columns import Bytes, Fractions, Hashes, Rows
from pipeline.text.compiled import count_letters, decode, leaf

CUT_CHARS = 5  # the mean length of an English word
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
SCORES = (
    "words",
    "mean_word_chars",
    "symbol_word_frac",
    "bullet_line_frac",
    "ellipsis_line_frac",
    "alpha_word_frac",
    "stop_words",
)


@leaf
def measure_words(
    n_words: int, hashes: Hashes, chars: Rows, kinds: Bytes, stop_words: Hashes, out: Fractions
) -> None:  # pragma: no cover (compiled)
    """Fill the scores that depend on words only."""
    n_wordy, n_chars, n_alpha, seen = 0, 0, 0, 0
    for i in range(n_words):
        n, kind = chars[i], kinds[i]
        n_alpha += kind & HAS_LETTER  # bit 1
        if kind & IS_WORDY:
            n_wordy += 1
            n_chars += CUT_CHARS if kind & IS_CUT else n
            if 2 <= n <= 4:
                for k in range(len(stop_words)):
                    if hashes[i] == stop_words[k]:
                        seen |= 1 << k
    n_seen = 0
    while seen:
        n_seen += seen & 1
        seen >>= 1
    out[0] = n_wordy
    out[1] = n_chars / max(n_wordy, 1)
    out[5] = n_alpha / max(n_words, 1)
    out[6] = n_seen


@leaf
def measure_symbols(
    data: Bytes, start: int, stop: int, table: CharFlags, n_words: int, out: Fractions
) -> None:  # pragma: no cover (compiled)
    """Fill the scores of symbols and lines."""
    n_hashes, n_ellipses, n_dots = 0, 0, 0
    n_lines, n_bullets, n_trailing = 0, 0, 0
    first, last, tail = -1, -1, 0  # of the line: first and last code points that are not white space; trailing dots
    is_open = False
    i = start
    while i < stop:
        n_letters = count_letters(data, i, stop)
        if n_letters:
            first = 97 if first < 0 else first
            last, tail, is_open, n_dots = 97, 0, True, 0
            i += n_letters
            continue
        point, width = decode(data, i)
        i += width
        bits = table[point]
        if bits & SPACE:
            if not bits & BREAKS_LINE:
                is_open = True
                n_dots = 0
                continue
            if point == 13 and i < stop and data[i] == 10:
                i += 1
            n_lines += 1
            n_bullets += first == 0x2022 or first == 45
            n_trailing += tail >= 3 or last == 0x2026
            first, last, tail, n_dots, is_open = -1, -1, 0, 0, False
            continue
        n_hashes += point == 35
        if point == 46:
            n_dots += 1
            tail = tail + 1 if last == 46 and n_dots > 1 else 1
            if n_dots % 3 == 0:
                n_ellipses += 1
        else:
            n_dots, tail = 0, 0
            n_ellipses += point == 0x2026
        first = point if first < 0 else first
        last, is_open = point, True
    if is_open:
        n_lines += 1
        n_bullets += first == 0x2022 or first == 45
        n_trailing += tail >= 3 or last == 0x2026
    out[2] = max(n_hashes, n_ellipses) / max(n_words, 1)
    out[3] = n_bullets / max(n_lines, 1)
    out[4] = n_trailing / max(n_lines, 1)
