"""C4's line cleaning, and scores of the remaining lines (Raffel et al. 2020, section 2.2; the line rules are those of C4's code).

In: a column of texts. Out: the texts of the surviving lines, and scores. A line is removed if it has a word longer than
`max_word_chars`, does not end in `.`, `?`, `!` or a quotation mark (or ends in `...`), has fewer than `min_line_words` words,
contains "javascript", or mentions cookies or terms of use. Citations (`[1]`, `[edit]`, `[citation needed]`) and surrounding white
space are removed from the other lines, which are joined by single newlines. A removed line counts for the first rule it breaks.

Of the remaining lines, `sentences` counts like spaCy's sentencizer (a single `.`, `!` or `?` followed by anything but punctuation).
`lorem_ipsum_lines` and `curly_bracket_lines` count the lines with these, before the rule on policies is applied; they decide about
the whole document. `words_left` saves FineWeb's rules from counting words again. Definitions and their order are datatrove's. The
list of bad words is not used. Time: about 10 ns per byte. Memory: a copy of the texts, 33 bytes per word of the longest document.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.filter.decisions import CHANGED, Scored
from pipeline.filter.words.char_flags import BREAKS_LINE, NUMERAL, SPACE, UNSPACED, CharFlags, load_char_flags
from pipeline.filter.words.known_words import load_known_words
from pipeline.filter.words.unspaced import find_unspaced_end
from pipeline.filter.words.words import IS_END, IS_PUNCTUATION, cut_words, strip_whitespace
from pipeline.text.columns import Bytes, Fractions, Hashes, Offsets, Rows, from_utf8, to_utf8
from pipeline.text.compiled import decode, leaf

SCORES = ("sentences", "lorem_ipsum_lines", "curly_bracket_lines", "words_left")
CHANGES = (
    "c4_long_word_lines",
    "c4_unended_lines",
    "c4_short_lines",
    "c4_javascript_lines",
    "c4_policy_lines",
    "c4_blank_lines",
    "c4_trimmed_lines",
    "c4_citations",
)
_LONG, _UNENDED, _SHORT, _JAVASCRIPT, _POLICY, _BLANK, _TRIMMED, _CITATIONS = range(4, 12)
_EDIT, _NEEDED, _LOREM, _SCRIPT, _POLICIES = 0, 1, 2, 3, 4
_PHRASES = (
    *("[edit]", "[citation needed]", "lorem ipsum", "javascript"),
    *("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"),
)
# The position of the rarest character of each phrase; the rest is compared only where this one matches.
_ANCHORS = (0, 0, 7, 0, 7, 3, 3, 8, 10, 7)


class Lines(NamedTuple):
    """Which lines are kept. `False`, 0 words or a huge word length turns a rule off."""

    max_word_chars: int = 1000
    min_line_words: int = 3
    use_terminal_punctuation: bool = True
    use_javascript: bool = True
    use_policies: bool = True
    use_citations: bool = True


def clean_lines(texts: pa.StringArray, lines: Lines) -> Scored:
    """Return the texts of the surviving lines, and the columns `SCORES` and a `changed_…` for each of `CHANGES`."""
    data, offsets = to_utf8(texts)
    cleaned, ends, scores = _clean_rows(
        data, offsets, load_char_flags(), *load_known_words(), *_load_phrases(), np.array(lines, np.int64)
    )
    names = [*SCORES, *(CHANGED + name for name in CHANGES)]
    columns = [pa.array(column) for column in scores.T.copy()]
    return Scored(from_utf8(cleaned, ends), pa.record_batch(columns, names=names))


@cache
def _load_phrases() -> tuple[Bytes, Offsets, Rows, Bytes]:
    """Return the phrases' bytes, offsets and anchors, and for each byte whether it is an anchor (1) or a curly bracket (2)."""
    hints = np.zeros(256, np.uint8)
    for phrase, at in zip(_PHRASES[_LOREM:], _ANCHORS[_LOREM:], strict=True):
        hints[[ord(phrase[at]), ord(phrase[at].upper())]] = 1
    hints[ord("{")] = 2
    return *to_utf8(pa.array(_PHRASES)), np.array(_ANCHORS, np.int64), hints


@leaf
def _find_phrases(
    text: Bytes, start: int, stop: int, phrases: Bytes, phrase_offsets: Offsets, anchors: Rows, hints: Bytes
) -> int:  # pragma: no cover (compiled)
    """Return a bit for each phrase that occurs in any case, and bit 0 for a curly bracket."""
    found = 0
    for i in range(start, stop):
        hint = hints[text[i]]
        if hint == 0:
            continue
        if hint == 2:
            found |= 1
            continue
        for phrase in range(_LOREM, len(anchors)):
            first, last = phrase_offsets[phrase], phrase_offsets[phrase + 1]
            at = i - anchors[phrase]
            if phrases[first + anchors[phrase]] != text[i] | 32 or at < start or at + last - first > stop:
                continue
            k = 0
            while k < last - first:
                byte = text[at + k]
                if (byte | 32 if 65 <= byte <= 90 else byte) != phrases[first + k]:
                    break
                k += 1
            if k == last - first:
                found |= 1 << phrase
    return found


@leaf
def _match_citation(
    data: Bytes, i: int, stop: int, table: CharFlags, phrases: Bytes, phrase_offsets: Offsets
) -> int:  # pragma: no cover (compiled)
    """Return the length in bytes of the citation that starts with the bracket at i, or 0."""
    k = i + 1
    while k < stop:
        point, width = decode(data, k)
        if not table[point] & NUMERAL:
            break
        k += width
    if k < stop and data[k] == 93:
        return k + 1 - i
    for phrase in (_EDIT, _NEEDED):
        first, n = phrase_offsets[phrase], phrase_offsets[phrase + 1] - phrase_offsets[phrase]
        if i + n <= stop:
            k = 0
            while k < n and data[i + k] == phrases[first + k]:
                k += 1
            if k == n:
                return n
    return 0


@leaf
def count_sentences(
    data: Bytes, n_words: int, starts: Rows, ends: Rows, kinds: Bytes
) -> int:  # pragma: no cover (compiled)
    """Return the number of sentences in a tokenized line. More than one space between words counts as a word."""
    n, is_ended = min(n_words, 1), False
    for i in range(n_words):
        if is_ended:
            gap = starts[i] - ends[i - 1]
            is_spaced = gap > 1 or (gap == 1 and data[ends[i - 1]] != 32)
            if is_spaced or not kinds[i] & (IS_PUNCTUATION | IS_END):
                n, is_ended = n + 1, False
        is_ended = is_ended or kinds[i] & IS_END != 0
    return n


@leaf
def _scan_words(
    data: Bytes, start: int, stop: int, table: CharFlags, lines: Rows
) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return (words, code points of the longest); stop once more words can't matter. Words are separated by white space, or cut
    where their script has none."""
    n, chars, longest = 0, 0, 0
    is_short = stop - start <= lines[0]
    i = start
    while i < stop and not (is_short and n >= lines[1]):
        byte = data[i]
        if byte < 128:
            is_space, width = byte == 32 or (byte < 32 and table[byte] & SPACE != 0), 1
        else:
            point, width = decode(data, i)
            is_space = table[point] & SPACE != 0
            if table[point] & UNSPACED:
                n, chars, i = n + 1, 0, find_unspaced_end(data, i, stop, table)
                continue
        if is_space:
            chars = 0
        else:
            n += chars == 0
            chars += 1
            longest = max(longest, chars)
        i += width
    return n, longest


@leaf
def _find_line_end(data: Bytes, i: int, stop: int, table: CharFlags) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return where the line ends and where the next one starts (-1: there is none)."""
    while i < stop:
        byte = data[i]
        if 32 <= byte < 128:
            i += 1
            continue
        point, width = decode(data, i)
        if table[point] & BREAKS_LINE:
            is_pair = point == 13 and i + 1 < stop and data[i + 1] == 10
            return i, i + width + is_pair
        i += width
    return stop, -1


@leaf
def _judge_line(
    out: Bytes,
    first: int,
    n: int,
    n_words: int,
    phrases: Bytes,
    phrase_offsets: Offsets,
    anchors: Rows,
    hints: Bytes,
    lines: Rows,
    scores: Fractions,
) -> int:  # pragma: no cover (compiled)
    """Return the index of the score that counts why this line is removed, or 0 to keep it. `out[first:n]` has no citations."""
    if lines[2]:
        last = out[n - 1] if n > first else 0
        is_dotted = n - first >= 3 and last == 46 and out[n - 2] == 46 and out[n - 3] == 46
        if last not in (46, 63, 33, 34, 39) or is_dotted:
            return _UNENDED
    if n_words < lines[1]:
        return _SHORT
    found = _find_phrases(out, first, n, phrases, phrase_offsets, anchors, hints)
    scores[1] += (found >> _LOREM) & 1
    if lines[3] and (found >> _SCRIPT) & 1:
        return _JAVASCRIPT
    scores[2] += found & 1
    return _POLICY if lines[4] and found >> _POLICIES else 0


@leaf
def _is_same(
    data: Bytes, start: int, stop: int, out: Bytes, first: int, last: int
) -> bool:  # pragma: no cover (compiled)
    """Return whether both ranges hold the same bytes."""
    i = 0 if stop - start == last - first else -1
    while 0 <= i < stop - start and data[start + i] == out[first + i]:
        i += 1
    return i == stop - start


@numba.njit(cache=True, nogil=True)
def _clean_rows(
    data: Bytes,
    offsets: Offsets,
    table: CharFlags,
    known_keys: Hashes,
    pieces: npt.NDArray[np.uint32],
    phrases: Bytes,
    phrase_offsets: Offsets,
    anchors: Rows,
    hints: Bytes,
    lines: Rows,
) -> tuple[Bytes, Offsets, Fractions]:  # pragma: no cover (compiled)
    """Return the cleaned texts' bytes and offsets, and 12 scores per row."""
    n_rows = len(offsets) - 1
    scores = np.zeros((n_rows, 12), np.float64)
    out, ends = np.empty(offsets[n_rows] - offsets[0] + n_rows + 8, np.uint8), np.zeros(n_rows + 1, np.int64)
    longest = 0
    for row in range(n_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    starts, stops, chars = (
        np.empty(longest + 8, np.int64),
        np.empty(longest + 8, np.int64),
        np.empty(longest + 8, np.int64),
    )
    hashes, kinds = np.empty(longest + 8, np.uint64), np.empty(longest + 8, np.uint8)
    n = 0
    for row in range(n_rows):
        following, stop = offsets[row], offsets[row + 1]
        while 0 <= following < stop:
            i = following
            end, following = _find_line_end(data, i, stop, table)
            start, last = strip_whitespace(data, i, end, table)
            if start == last:
                scores[row, _BLANK] += 1
                continue
            n_words, n_longest = _scan_words(data, start, last, table, lines)
            if n_longest > lines[0]:
                scores[row, _LONG] += 1
                continue
            line = n + (n > ends[row])  # the position after a newline
            n_citations, k, m = 0, start, line
            while k < last:
                width = (
                    _match_citation(data, k, last, table, phrases, phrase_offsets) if lines[5] and data[k] == 91 else 0
                )
                if width:
                    n_citations, k = n_citations + 1, k + width
                else:
                    out[m] = data[k]
                    m, k = m + 1, k + 1
            verdict = _judge_line(out, line, m, n_words, phrases, phrase_offsets, anchors, hints, lines, scores[row])
            if verdict:
                scores[row, verdict] += 1
                continue
            if line > n:
                out[n] = 10
            n = m
            scores[row, _TRIMMED] += start > i or last < end
            scores[row, _CITATIONS] += n_citations
            n_cut = cut_words(out, line, m, table, known_keys, pieces, starts, stops, hashes, chars, kinds)
            scores[row, 0] += count_sentences(out, n_cut, starts, stops, kinds)
            scores[row, 3] += n_cut
        ends[row + 1] = n
        if not np.any(scores[row, 4:]) and not _is_same(data, offsets[row], stop, out, ends[row], n):
            scores[row, _TRIMMED] = 1  # only a trailing newline or the kind of line break differed
    return out[:n], ends, scores
