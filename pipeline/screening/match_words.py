"""Extract the words by which documents and evaluation items are compared, undoing what hides a copy.

In: a column of texts. Out: their words (`normalize.split_words`): the same ones, whether a text is written plainly or with
character references (`&nbsp;`, `&#39;`, escaped up to three times), with invisible characters (soft hyphens, zero-width spaces,
joiners, direction marks), with letters of other scripts that look alike (lookalikes.py), with accents, or with lines numbered in
sequence.
`join_letters` does the same for letters set apart by spaces.

Memory: a copy of the column. Time: linear; rows of ASCII without references and numbered lines are only looked through, at several
GB/s. Does not cover: words hyphenated at the ends of lines, digits for letters ("l33t"), other alphabets and encodings.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import html

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.screening.lookalikes import build_lookalikes
from pipeline.text.columns import Bytes, Offsets, from_utf8, to_utf8
from pipeline.text.compiled import find_newline
from pipeline.text.letters import decode_any, encode
from pipeline.text.normalize import fold, split_words

_HAS_REFERENCES, _HAS_NUMBERED_LINES, _HAS_OTHERS = 1, 2, 4
_MAX_UNESCAPES = 3
MIN_LETTERS = 20  # set apart in a row; an alphabet has 26, but in no item's order


def extract_match_words(texts: pa.StringArray) -> pa.StringArray:
    """Return the words of each text, separated by one space."""
    data, offsets = to_utf8(texts)
    found = _find_rewritten(data, offsets)
    if (found & _HAS_REFERENCES).any():
        texts = _unescape(texts, (found & _HAS_REFERENCES) > 0)
        data, offsets = to_utf8(texts)
        found = _find_rewritten(data, offsets)
    if found.any():
        is_changed = pa.array(found > 0)
        part = to_utf8(texts.filter(is_changed))
        plain = from_utf8(*_make_plain(*part, found[found > 0], build_lookalikes()))
        texts = pc.replace_with_mask(texts, is_changed, plain)
    return split_words(fold(texts))


def join_letters(words: pa.StringArray) -> pa.StringArray:
    """Return the letters and digits of each row without the spaces between them, cut into new words after each e and t.

    The cuts depend on nothing but the letters, so that a text gives the same words with its spaces anywhere. On average these
    have as many letters as English words."""
    data, offsets = to_utf8(words)
    return from_utf8(*_join_letters(data, offsets, 1))


def find_spaced_rows(words: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return which rows may have a run of `MIN_LETTERS` words of one letter."""
    return _find_spaced_rows(*to_utf8(words), MIN_LETTERS)


def join_spaced_letters(words: pa.StringArray) -> pa.StringArray:
    """Return the same for the rows' runs of at least `MIN_LETTERS` words of one letter or digit; nothing for other words."""
    data, offsets = to_utf8(words)
    return from_utf8(*_join_letters(data, offsets, MIN_LETTERS))


def _unescape(texts: pa.StringArray, is_escaped: npt.NDArray[np.bool_]) -> pa.StringArray:
    """Return the texts with the character references of these rows replaced."""
    plain: list[str] = []
    for text in texts.filter(pa.array(is_escaped)).to_pylist():
        for _ in range(_MAX_UNESCAPES):
            before, text = text, html.unescape(text)
            if text == before:
                break
        plain.append(text.encode("utf-8", "replace").decode())
    return pc.replace_with_mask(texts, pa.array(is_escaped), pa.array(plain, pa.string()))


@numba.njit(cache=True, nogil=True)
def _find_rewritten(data: Bytes, offsets: Offsets) -> Bytes:  # pragma: no cover (compiled)
    """Return for each row which of the three it has."""
    out = np.zeros(len(offsets) - 1, np.uint8)
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        bits, n_ands = np.uint8(0), 0
        row_in = data[start:stop]
        for i in range(len(row_in)):  # vectorized
            bits |= row_in[i]
            n_ands += row_in[i] == 38
        if bits >= 128:
            out[row] |= _HAS_OTHERS
        if n_ands and _has_reference(data, start, stop):
            out[row] |= _HAS_REFERENCES
        if _has_numbered_lines(data, start, stop):
            out[row] |= _HAS_NUMBERED_LINES
    return out


@numba.njit(nogil=True)
def _has_reference(data: Bytes, start: int, stop: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the row has `&name;`, `&#123;` or `&#x1f;`."""
    for i in range(start, stop):
        if data[i] == 38:
            j = i + 1
            while j < stop and j - i < 12 and (data[j] == 35 or 48 <= data[j] <= 57 or 97 <= data[j] | 32 <= 122):
                j += 1
            if j < stop and data[j] == 59 and j > i + 2:
                return True
    return False


@numba.njit(nogil=True)
def _has_numbered_lines(data: Bytes, i: int, stop: int) -> bool:  # pragma: no cover (compiled)
    """Return whether two lines are numbered in sequence."""
    before = -1
    while i < stop:
        while i < stop and data[i] <= 32 and data[i] != 10:
            i += 1
        is_letter = i < stop and (97 <= data[i] | 32 <= 122 or data[i] >= 128)
        if i < stop and (not is_letter or data[i] | 32 == 108):  # line 12, L12
            number, _ = _read_line_number(data, i, stop)
            if _follows(number, before):
                return True
            before = number if number >= 0 else before
        i = find_newline(data, i, stop) + 1
    return False


@numba.njit(nogil=True)
def _read_line_number(data: Bytes, i: int, stop: int | np.int64) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return (the number at the beginning of the line at i, or -1; where it ends). White space or punctuation follows it."""
    while i < stop and _is_before_number(data[i]):
        i += 1
    if i + 5 < stop and data[i] | 32 == 108:  # L12, line 12
        is_word = data[i + 1] | 32 == 105 and data[i + 2] | 32 == 110 and data[i + 3] | 32 == 101 and data[i + 4] == 32
        i += 5 if is_word else 1
    first, number = i, 0
    while i < stop and i - first < 6 and 48 <= data[i] <= 57:
        number = number * 10 + data[i] - 48
        i += 1
    if i == first or i - first == 6 or i >= stop:
        return -1, i
    after = data[i]
    is_end = after == 32 or after == 9 or after == 41 or after == 93 or after == 124 or after == 0xE2  # space ) ] | →
    is_joint = after == 45 or after == 46 or after == 58  # - . :
    is_end |= is_joint and not (i + 1 < stop and 48 <= data[i + 1] <= 57)
    return (number if is_end else -1), i


@numba.njit(nogil=True)
def _is_before_number(byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the byte is white space or punctuation that may precede the number of a line: # ( * - > [ |."""
    return (
        byte == 32
        or byte == 9
        or byte == 35
        or byte == 40
        or byte == 42
        or byte == 45
        or byte == 62
        or byte == 91
        or byte == 124
    )


@numba.njit(nogil=True)
def _follows(number: int, before: int) -> bool:  # pragma: no cover (compiled)
    """Return whether two lines are numbered in sequence, one by one or in fives, tens or hundreds."""
    step = number - before
    return (
        number >= 0
        and before >= 0
        and (step == 1 or (number % step == 0 if step == 5 or step == 10 or step == 100 else False))
    )


@numba.njit(cache=True, nogil=True)
def _make_plain(
    data: Bytes, offsets: Offsets, found: Bytes, lookalikes: npt.NDArray[np.int32]
) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    """Return the rows without numbers of lines that are numbered in sequence, invisible characters and lookalikes."""
    out = np.empty(offsets[len(offsets) - 1] - offsets[0] + 8, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    n, one, newline = np.uint64(0), np.uint64(1), np.uint8(10)  # unsigned indices: no check for negative ones
    for row in range(len(offsets) - 1):
        i, stop = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
        is_numbered = found[row] & _HAS_NUMBERED_LINES > 0
        is_start, before = is_numbered, -1
        while i < stop:
            if is_start:
                number, end = _read_line_number(data, int(np.int64(i)), np.int64(stop))
                if _follows(number, before) or _follows(_get_next_number(data, end, np.int64(stop)), number):
                    i = np.uint64(end)
                before = number if number >= 0 else before
                is_start = False
            byte = data[i]
            while byte < 128:
                out[n] = byte
                n += one
                i += one
                is_start = is_numbered and byte == newline
                if is_start or i >= stop:
                    break
                byte = data[i]
            if is_start or i >= stop:
                continue
            point, width = decode_any(data, i)
            i += np.uint64(width)
            if point < len(lookalikes):
                point = int(lookalikes[point])
            elif 0xE0000 <= point < 0xE1000:  # tags and variation selectors
                point = -1
            if point >= 0:
                n += np.uint64(encode(point, out, n))
        ends[row + 1] = n
    return out[:n], ends


@numba.njit(nogil=True)
def _get_next_number(data: Bytes, i: int, stop: int | np.int64) -> int:  # pragma: no cover (compiled)
    """Return the number at the beginning of the next line that is not blank, or -1."""
    i = find_newline(data, i, int(stop))
    while i < stop and data[i] == 10:
        i += 1
    return _read_line_number(data, i, stop)[0] if i < stop else -1


@numba.njit(cache=True, nogil=True)
def _find_spaced_rows(
    data: Bytes, offsets: Offsets, min_letters: int
) -> npt.NDArray[np.bool_]:  # pragma: no cover (compiled)
    """Return which rows have as many places with a space in every second of fifteen bytes as such a run has."""
    out = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(offsets) - 1):
        row_in, n = data[offsets[row] : offsets[row + 1]], 0
        a, b, c, d, e, f, g = row_in[2:], row_in[4:], row_in[6:], row_in[8:], row_in[10:], row_in[12:], row_in[14:]
        for i in range(len(row_in) - 14):  # slices indexed from 0, so that the loop is vectorized
            n += (
                (row_in[i] == 32) & (a[i] == 32) & (b[i] == 32) & (c[i] == 32)
                & (d[i] == 32) & (e[i] == 32) & (f[i] == 32) & (g[i] == 32)
            )  # fmt: skip
        out[row] = n >= min_letters - 8
    return out


@numba.njit(cache=True, nogil=True)
def _join_letters(
    data: Bytes, offsets: Offsets, min_letters: int
) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    """Return the letters of the runs of words of one letter, or of all words if `min_letters` is 1, cut after each e and t."""
    out = np.empty(2 * (offsets[len(offsets) - 1] - offsets[0]) + 8, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    n = 0
    for row in range(len(offsets) - 1):
        i, stop, first, n_letters, row_start = offsets[row], offsets[row + 1], n, 0, n
        while i <= stop:
            end = i
            while end < stop and data[end] != 32:
                end += 1
            is_run = i < stop and (min_letters == 1 or end - i == 1 or (data[i] >= 192 and end - i <= 4))
            for k in range(i, end if is_run else i):
                if data[k] < 128:
                    out[n] = data[k]
                    n += 1
                    n_letters += 1
                    if data[k] == 101 or data[k] == 116:
                        out[n] = 32
                        n += 1
            if not is_run or end >= stop:
                if n_letters < min_letters:
                    n = first
                elif n > first and out[n - 1] != 32:
                    out[n] = 32
                    n += 1
                first, n_letters = n, 0
            i = end + 1
        if n > row_start and out[n - 1] == 32:
            n -= 1
        ends[row + 1] = n
    return out[:n], ends
