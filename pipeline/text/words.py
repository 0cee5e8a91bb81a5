"""Words as the rule filters count them: English, with marks split off and contractions cut, as spaCy's tokenizer does.

In: the bytes of a text. Out: for each word where it starts and ends, its hash and its marks. A run of non-space loses what
`OPENS` and `CLOSES`, `'s` and units after numbers at its ends, from both sides at once; what is left is one word if it is known
(pipeline/text/contractions.py) or an address, and else is parted at dots, commas, hyphens and `:<>=/` between letters.
Other languages are cut by the same rule. Time: linear, about 4 ns a byte.

Memory: arrays as long as the longest text, reused. Numba's cache looks at the file that a kernel is in, not at the files of the
functions it calls: after an edit of `marks`, `letters` or this file, delete `pipeline/text/__pycache__`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.addresses import is_address
from pipeline.text.columns import Bytes, Hashes, Offsets, Rows, to_utf8
from pipeline.text.contractions import special_words
from pipeline.text.machine import count_letters, decode, leaf, load64
from pipeline.text.marks import (
    BEFORE_DOT,
    CLOSES,
    CURRENCY,
    DIGIT,
    ENDS_SENTENCE,
    ICON,
    INNER,
    JOINS,
    LETTER,
    LOWER,
    OPENS,
    PUNCTUATION,
    QUOTE,
    SPACE,
    SYMBOL,
    UPPER,
    Marks,
    marks,
)

MAX_SPECIAL = 16  # bytes
MAX_PIECES = 4  # bytes of a table's entry: the lengths of a special word's pieces
MAX_UNIT = 5
TABLE_BITS = 12
# What a word is, as bits.
HAS_LETTER, IS_WORDY, IS_PUNCTUATION, IS_END = 1, 2, 4, 8

_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar "
    "mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар "
    "Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тб US$ C$ A$"
)


Lengths: TypeAlias = npt.NDArray[np.uint32]


class Known(NamedTuple):
    """Hash tables of words that are known whole: `keys` (0: free) and the lengths of the pieces, a byte each (0 of units)."""

    keys: Hashes
    pieces: Lengths


@cache
def known() -> Known:
    """Special words and units of measure in one table; a unit's key is the complement of its hash."""
    special, units = special_words(), _UNITS.split()
    hashes = hash_words([*special, *units])
    entries = [sum(len(piece.encode()) << 8 * i for i, piece in enumerate(pieces)) for pieces in special.values()]
    size = 1 << TABLE_BITS
    keys, pieces = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
    n = len(special)
    for key, entry in zip([*hashes[:n], *~hashes[n:]], [*entries, *[1] * len(units)], strict=True):
        at = int(key) >> (64 - TABLE_BITS)
        while keys[at] and keys[at] != key:
            at = (at + 1) % size
        keys[at], pieces[at] = key, entry
    return Known(keys, pieces)


def hash_words(words: Sequence[str]) -> Hashes:
    """The hashes that these words have in every text."""
    return _hash_rows(*to_utf8(pa.array(words, pa.string())))


def split(text: str) -> list[str]:
    """The words of one text: for tests and for a look."""
    data, offsets = to_utf8(pa.array([text]))
    starts, ends, _, _, _ = _split(data, offsets, marks(), *known())
    return [bytes(data[i:j]).decode() for i, j in zip(starts.tolist(), ends.tolist(), strict=True)]


@numba.njit(cache=True, nogil=True)
def _hash_rows(data: Bytes, offsets: Offsets) -> Hashes:  # pragma: no cover (compiled)
    hashes = np.zeros(len(offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        hashes[row] = hash_word(data, offsets[row], offsets[row + 1])
    return hashes


@leaf
def _word64(data: Bytes, start: int, stop: int) -> np.uint64:  # pragma: no cover (compiled)
    """Up to eight bytes as a number."""
    n = stop - start
    if start + 8 <= len(data):
        word = load64(data, start)
        return word & (~np.uint64(0) >> np.uint64(64 - 8 * n)) if n < 8 else word
    word = np.uint64(0)
    for k in range(min(n, 8)):
        word |= np.uint64(data[start + k]) << np.uint64(8 * k)
    return word


@leaf
def hash_word(data: Bytes, start: int, stop: int) -> np.uint64:  # pragma: no cover (compiled)
    """64 bits of the bytes, never 0: multiply and fold, eight bytes a step. Ours alone: it is stored nowhere."""
    h = np.uint64(stop - start) * np.uint64(0x9E3779B97F4A7C15)
    i = start
    while i < stop:
        h = (h ^ _word64(data, i, stop)) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
        i += 8
    h *= np.uint64(0xD6E8FEB86659FD93)
    return (h ^ (h >> np.uint64(29))) | np.uint64(1)


@leaf
def _find(keys: Hashes, pieces: Lengths, key: np.uint64) -> np.uint32:  # pragma: no cover (compiled)
    at = key >> np.uint64(64 - TABLE_BITS)
    while keys[at] != key:
        if keys[at] == np.uint64(0):
            return np.uint32(0)
        at = (at + np.uint64(1)) & np.uint64((1 << TABLE_BITS) - 1)
    return pieces[at]


@leaf
def _special(data: Bytes, i: int, j: int, keys: Hashes, pieces: Lengths) -> np.uint32:  # pragma: no cover (compiled)
    """The lengths of the pieces, or 0 for a word that is not known."""
    return _find(keys, pieces, hash_word(data, i, j)) if 0 < j - i <= MAX_SPECIAL else np.uint32(0)


@leaf
def before(data: Bytes, i: int) -> int:  # pragma: no cover (compiled)
    """Where the letter that ends before byte i starts."""
    i -= 1
    while data[i] & 0xC0 == 0x80:
        i -= 1
    return i


@leaf
def _opening(data: Bytes, i: int, j: int, table: Marks) -> int:  # pragma: no cover (compiled)
    """How many bytes come off the start."""
    point, width = decode(data, i)
    if point == 46:
        k = i
        while k < j and data[k] == 46:
            k += 1
        return k - i if k - i > 1 else 0
    if table[point] & OPENS:
        return width
    if point == 43:
        return 0 if i + 1 < j and 48 <= data[i + 1] <= 57 else 1
    if point == 85 and j - i > 2 and data[i + 1] == 83 and data[i + 2] == 36:
        return 3  # US$
    return 2 if (point == 65 or point == 67) and j - i > 1 and data[i + 1] == 36 else 0


@leaf
def _closing_dot(data: Bytes, i: int, j: int, table: Marks) -> int:  # pragma: no cover (compiled)
    k = j
    while k > i and data[k - 1] == 46:
        k -= 1
    if j - k > 1 or k == i:
        return j - k if j - k > 1 else 0
    last = before(data, k)
    point, _ = decode(data, last)
    if table[point] & BEFORE_DOT:
        return 1
    if last == i:
        return 0
    other, _ = decode(data, before(data, last))
    if table[point] & UPPER and table[other] & UPPER:
        return 1
    return 1 if other == 0xB0 and (point | 32) in (99, 102, 107) else 0


@leaf
def _closing(
    data: Bytes, i: int, j: int, table: Marks, keys: Hashes, pieces: Lengths
) -> int:  # pragma: no cover (compiled)
    """How many bytes come off the end."""
    if i >= j:
        return 0
    last = before(data, j)
    point, width = decode(data, last)
    if point == 46:
        return _closing_dot(data, i, j, table)
    if point == 115 or point == 83:  # 's
        if last - i >= 1 and data[last - 1] == 39:
            return 2
        if last - i >= 3 and data[last - 3] == 0xE2 and data[last - 2] == 0x80 and data[last - 1] == 0x99:
            return 4
    if table[point] & CLOSES:
        if point == 0x2026 and last - i >= 3 and decode(data, last - 3)[0] == 0x2026:
            return 6
        return width
    if last > i:
        is_after_digit = 48 <= data[last - 1] <= 57
        if point == 43 and is_after_digit:
            return 1
        if table[point] & CURRENCY and is_after_digit:
            return width
        k = last  # a unit reaches back to a digit
        for _ in range(MAX_UNIT):
            if k <= i:
                break
            if 48 <= data[k - 1] <= 57:
                key = ~hash_word(data, k, j)
                return j - k if _find(keys, pieces, key) else 0
            k = before(data, k)
    return 0


@leaf
def _hyphens(data: Bytes, i: int, j: int) -> int:  # pragma: no cover (compiled)
    """Bytes of the hyphens or dashes here, longest first; a letter must follow."""
    byte = data[i]
    if byte == 126:
        return 1
    if byte == 45:
        k = i
        while k < j and data[k] == 45:
            k += 1
        return k - i if k - i <= 3 else 0
    if byte == 0xE2 and data[i + 1] == 0x80 and (data[i + 2] == 0x93 or data[i + 2] == 0x94):
        return 6 if i + 5 < j and data[i + 2] == 0x94 and decode(data, i + 3)[0] == 0x2014 else 3
    return 0


@leaf
def _inner(data: Bytes, i: int, start: int, j: int, table: Marks) -> int:  # pragma: no cover (compiled)
    """Bytes of the mark at i that parts the word from `start` to j, or 0."""
    point, width = decode(data, i)
    if point == 46 and i + 1 < j and data[i + 1] == 46:
        k = i
        while k < j and data[k] == 46:
            k += 1
        return k - i
    bits = table[point]
    if point == 0x2026 or bits & ICON:
        return width
    if i == start or i + width >= j:
        return 0
    left = table[decode(data, before(data, i))[0]]
    after = decode(data, i + width)[0]
    if left & DIGIT and (point in (43, 45, 42, 94)) and (table[after] & DIGIT or after == 45):
        return 1
    if point == 46:
        return 1 if left & (LOWER | QUOTE) and table[after] & (UPPER | QUOTE) else 0
    if point == 44:
        return 1 if left & (LOWER | UPPER) and table[after] & (LOWER | UPPER) else 0
    if left & (LOWER | UPPER | DIGIT):
        if bits & JOINS:
            return 1 if table[after] & (LOWER | UPPER) else 0
        n = _hyphens(data, i, j)
        if n and i + n < j and table[decode(data, i + n)[0]] & (LOWER | UPPER):
            return n
    return 0


@leaf
def _pieces(lengths: np.uint32, i: int, starts: Rows, ends: Rows, n: int) -> int:  # pragma: no cover (compiled)
    """Adds the pieces of a special word that starts at i; returns the number of words."""
    while lengths:
        starts[n] = i
        i += int(lengths & np.uint32(255))
        ends[n] = i
        lengths >>= np.uint32(8)
        n += 1
    return n


@leaf
def _cut_middle(
    data: Bytes, i: int, j: int, table: Marks, starts: Rows, ends: Rows, n: int
) -> int:  # pragma: no cover (compiled)
    """Adds the parts of a word without its ends' marks: parted by what `_inner` finds, unless it is an address."""
    is_checked, word, k = False, i, i
    while k < j:
        byte = data[k]
        if byte < 128 and not table[byte] & INNER:
            k += 1
            continue
        width = _inner(data, k, i, j, table)
        if width == 0 or k == i:
            k += width or decode(data, k)[1]
            continue
        if not is_checked:
            if is_address(data, i, j, table):
                break
            is_checked = True
        if k > word:
            starts[n], ends[n] = word, k
            n += 1
        starts[n], ends[n] = k, k + width
        n, k = n + 1, k + width
        word = k
    if word < j:
        starts[n], ends[n] = word, j
        n += 1
    return n


@leaf
def _cut(
    data: Bytes,
    i: int,
    j: int,
    table: Marks,
    keys: Hashes,
    pieces: Lengths,
    starts: Rows,
    ends: Rows,
    n: int,
) -> int:  # pragma: no cover (compiled)
    """Adds the words of a run of non-space; returns their number. Marks of the end wait at the end of `starts`."""
    first, n_waiting, stop, size = n, 0, j, -1
    lengths = _special(data, i, j, keys, pieces)
    while lengths == 0 and i < j and j - i != size:
        size = j - i
        opening = _opening(data, i, j, table)
        if opening and opening < size:
            lengths = _special(data, i + opening, j, keys, pieces)
            if lengths:
                starts[n], ends[n] = i, i + opening
                n, i = n + 1, i + opening
                break
        closing = _closing(data, i + opening, j, table, keys, pieces)
        if closing and closing < size:
            lengths = _special(data, i, j - closing, keys, pieces)
            if lengths:
                j -= closing
                n_waiting += 1
                starts[-n_waiting] = j
                break
        if opening:
            starts[n], ends[n] = i, i + opening
            n, i = n + 1, i + opening
        if closing:
            j -= closing
            n_waiting += 1
            starts[-n_waiting] = j
        if opening or closing:
            lengths = _special(data, i, j, keys, pieces)
    n = _pieces(lengths, i, starts, ends, n) if lengths else _cut_middle(data, i, j, table, starts, ends, n)
    for k in range(n_waiting, 0, -1):
        starts[n], ends[n] = starts[-k], starts[-(k - 1)] if k > 1 else stop
        n += 1
    return _join(data, first, n, keys, pieces, starts, ends) if n - first > 1 else n


@leaf
def _join(
    data: Bytes, first: int, n: int, keys: Hashes, pieces: Lengths, starts: Rows, ends: Rows
) -> int:  # pragma: no cover (compiled)
    """Neighbours that are one special word together, such as `)` and `:`, become its pieces."""
    k = first
    while k < n - 1:
        following = data[starts[k + 1]]
        if ends[k] - starts[k] > 2 and following != 46 and following != 47:  # no known word begins so
            k += 1
            continue
        for m in range(min(n, k + 4) - 1, k, -1):
            lengths = _special(data, starts[k], ends[m], keys, pieces)
            if lengths and lengths >> np.uint32(8) == 0:
                ends[k] = ends[m]
                for rest in range(m + 1, n):
                    starts[rest - m + k], ends[rest - m + k] = starts[rest], ends[rest]
                n -= m - k
                break
        k += 1
    return n


@leaf
def describe(data: Bytes, i: int, j: int, table: Marks) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Letters (code points) of a word, and what it is, as bits."""
    if count_letters(data, i, j) == j - i:
        return j - i, HAS_LETTER | IS_WORDY
    n, has_letter, is_wordy, is_punctuation, bits = 0, False, False, True, np.uint32(0)
    while i < j:
        point, width = decode(data, i)
        bits = table[point]
        has_letter = has_letter or bits & LETTER != 0
        is_wordy = is_wordy or bits & SYMBOL == 0
        is_punctuation = is_punctuation and bits & PUNCTUATION != 0
        n += 1
        i += width
    is_end = n == 1 and bits & ENDS_SENTENCE != 0
    return n, has_letter * HAS_LETTER + is_wordy * IS_WORDY + is_punctuation * IS_PUNCTUATION + is_end * IS_END


@leaf
def cut_words(
    data: Bytes,
    start: int,
    stop: int,
    table: Marks,
    keys: Hashes,
    pieces: Lengths,
    starts: Rows,
    ends: Rows,
    hashes: Hashes,
    chars: Rows,
    kinds: Bytes,
) -> int:  # pragma: no cover (compiled)
    """Fills the five arrays (longer than the text has bytes) with the words of bytes `start` to `stop`; returns their number."""
    n, i = 0, start
    while i < stop:
        first = i
        i += count_letters(data, i, stop)
        is_plain = True
        while i < stop:
            byte = data[i]
            if byte < 128:
                if table[byte] & SPACE:
                    break
                i += 1
            else:
                point, width = decode(data, i)
                if table[point] & SPACE:
                    break
                i += width
            is_plain = False
        if i > first:
            if is_plain:
                key = hash_word(data, first, i)
                lengths = _find(keys, pieces, key) if i - first <= MAX_SPECIAL else np.uint32(0)
                if lengths == 0 or lengths == np.uint32(i - first):
                    starts[n], ends[n], hashes[n], chars[n], kinds[n] = first, i, key, i - first, HAS_LETTER | IS_WORDY
                    n += 1
                    i += i < stop and data[i] == 32
                    continue
            last = n
            n = _cut(data, first, i, table, keys, pieces, starts, ends, n)
            for word in range(last, n):
                hashes[word] = hash_word(data, starts[word], ends[word])
                chars[word], kinds[word] = describe(data, starts[word], ends[word], table)
        else:
            i += decode(data, i)[1]
    return n


@leaf
def strip(data: Bytes, start: int, stop: int, table: Marks) -> tuple[int, int]:  # pragma: no cover (compiled)
    """The bytes without white space around them."""
    while start < stop:
        point, width = decode(data, start)
        if not table[point] & SPACE:
            break
        start += width
    while start < stop:
        last = stop - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        if not table[decode(data, last)[0]] & SPACE:
            break
        stop = last
    return start, stop


@numba.njit(cache=True, nogil=True)
def _split(
    data: Bytes, offsets: Offsets, table: Marks, keys: Hashes, pieces: Lengths
) -> tuple[Rows, Rows, Hashes, Rows, Bytes]:  # pragma: no cover (compiled)
    """The words of the first row."""
    size = offsets[1] - offsets[0] + 8
    starts, ends, hashes = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint64)
    chars, kinds = np.empty(size, np.int64), np.empty(size, np.uint8)
    n = cut_words(data, offsets[0], offsets[1], table, keys, pieces, starts, ends, hashes, chars, kinds)
    return starts[:n], ends[:n], hashes[:n], chars[:n], kinds[:n]
