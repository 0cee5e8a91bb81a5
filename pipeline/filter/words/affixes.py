"""Prefixes, suffixes and infixes of a run without white space. Compiled, for pipeline/filter/words/words.py.

In: bytes i to j of a text. Out: the length of the affix in bytes, 0 for none. The rules are those of spaCy's English tokenizer.
"""

from __future__ import annotations

from pipeline.filter.words.char_flags import (
    BEFORE_DOT,
    CLOSES,
    CURRENCY,
    DIGIT,
    ICON,
    JOINS,
    LOWER,
    OPENS,
    QUOTE,
    UPPER,
    CharFlags,
)
from pipeline.filter.words.known_words import Lengths, find_known, hash_word
from pipeline.text.columns import Bytes, Hashes
from pipeline.text.compiled import decode, leaf

MAX_UNIT = 5


@leaf
def find_previous_char(data: Bytes, i: int) -> int:  # pragma: no cover (compiled)
    """Return the start of the character that ends before byte i."""
    i -= 1
    while data[i] & 0xC0 == 0x80:
        i -= 1
    return i


@leaf
def count_opening_bytes(data: Bytes, i: int, j: int, table: CharFlags) -> int:  # pragma: no cover (compiled)
    """Return the bytes to split off the start."""
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
def _count_closing_dots(data: Bytes, i: int, j: int, table: CharFlags) -> int:  # pragma: no cover (compiled)
    """Return the dots to split off the end."""
    k = j
    while k > i and data[k - 1] == 46:
        k -= 1
    if j - k > 1 or k == i:
        return j - k if j - k > 1 else 0
    last = find_previous_char(data, k)
    point, _ = decode(data, last)
    if table[point] & BEFORE_DOT:
        return 1
    if last == i:
        return 0
    other, _ = decode(data, find_previous_char(data, last))
    if table[point] & UPPER and table[other] & UPPER:
        return 1
    return 1 if other == 0xB0 and (point | 32) in (99, 102, 107) else 0


@leaf
def count_closing_bytes(
    data: Bytes, i: int, j: int, table: CharFlags, keys: Hashes, pieces: Lengths
) -> int:  # pragma: no cover (compiled)
    """Return the bytes to split off the end."""
    if i >= j:
        return 0
    last = find_previous_char(data, j)
    point, width = decode(data, last)
    if point == 46:
        return _count_closing_dots(data, i, j, table)
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
        k = last  # a unit extends back to a digit
        for _ in range(MAX_UNIT):
            if k <= i:
                break
            if 48 <= data[k - 1] <= 57:
                key = ~hash_word(data, k, j)
                return j - k if find_known(keys, pieces, key) else 0
            k = find_previous_char(data, k)
    return 0


@leaf
def _count_hyphen_bytes(data: Bytes, i: int, j: int) -> int:  # pragma: no cover (compiled)
    """Return the bytes of the longest hyphens or dashes at i; the caller checks that a letter follows."""
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
def count_infix_bytes(data: Bytes, i: int, start: int, j: int, table: CharFlags) -> int:  # pragma: no cover (compiled)
    """Return the bytes of the infix at i that splits the word from `start` to j, or 0."""
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
    left = table[decode(data, find_previous_char(data, i))[0]]
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
        n = _count_hyphen_bytes(data, i, j)
        if n and i + n < j and table[decode(data, i + n)[0]] & (LOWER | UPPER):
            return n
    return 0
