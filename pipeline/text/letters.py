"""Classify code points: symbol, space, letter, digit, or a letter of a script that does not separate words by spaces.

There is one table for the Basic Multilingual Plane (64 KiB, built on first use from `unicodedata`) with one more entry for all code
points above it: nearly all of these are pictographs, each of which is a word of its own and not a letter.

Numba's cache tracks the file that contains a kernel, not the files of the functions that it calls: after an edit of `decode`,
delete `pipeline/text/__pycache__`.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numba
import numpy as np
import numpy.typing as npt

from pipeline.text.columns import Bytes

SYMBOL, SPACE, LETTER, DIGIT, SOLO, PICTOGRAPH = 0, 1, 2, 3, 4, 5
ABOVE = 0x10000  # what `decode` returns for every code point above the Basic Multilingual Plane

# Scripts that do not separate words by spaces: the range and the kind of its letters.
HAN, KATAKANA, THAI, KHMER, TIBETAN = 1, 2, 3, 4, 5
UNSPACED_SCRIPTS = (
    (0x0E00, 0x0EFF, THAI),  # Thai, Lao
    (0x0F00, 0x0FFF, TIBETAN),
    (0x1000, 0x109F, KHMER),  # Burmese
    (0x1780, 0x17FF, KHMER),
    (0x1950, 0x19DF, KHMER),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF, KHMER),  # Tai Tham
    (0x1B00, 0x1B7F, KHMER),  # Balinese
    (0x3005, 0x3006, HAN),  # signs for a repeated character and for "closed"
    (0x3040, 0x309F, HAN),  # hiragana
    (0x30A0, 0x30FF, KATAKANA),
    (0x3100, 0x312F, HAN),  # Bopomofo
    (0x3190, 0x31EF, HAN),
    (0x31F0, 0x31FF, KATAKANA),
    (0x3400, 0x4DBF, HAN),
    (0x4E00, 0x9FFF, HAN),
    (0xA980, 0xA9DF, KHMER),  # Javanese
    (0xA9E0, 0xA9FF, KHMER),  # Burmese
    (0xAA00, 0xAA5F, KHMER),  # Cham
    (0xAA60, 0xAA7F, KHMER),  # Burmese
    (0xAA80, 0xAADF, THAI),  # Tai Viet
    (0xF900, 0xFAFF, HAN),
    (0xFF66, 0xFF9F, KATAKANA),  # half-width
)


@cache
def build_char_classes() -> Bytes:
    """Return the class of each of the first 65,536 code points, and at index `ABOVE` that of all others."""
    classes = np.zeros(ABOVE + 1, dtype=np.uint8)
    classes[ABOVE] = PICTOGRAPH
    for point in range(ABOVE):
        char = chr(point)
        category = unicodedata.category(char)
        if category[0] in "LM":
            classes[point] = LETTER
        elif category[0] == "N" or char == "_":
            classes[point] = DIGIT
        elif char.isspace():
            classes[point] = SPACE
        elif category == "So" and 0x2600 <= point < 0x2800:
            classes[point] = PICTOGRAPH
    for first, last, _ in UNSPACED_SCRIPTS:
        unspaced = classes[first : last + 1]
        unspaced[unspaced == LETTER] = SOLO
    return classes


@cache
def build_folded_points() -> npt.NDArray[np.int32]:
    """Return the lower-case code point of each of the first 131,072 code points, or -1 for one that must be folded in context.

    A text of code points other than -1 is already NFKC and can be lowered one by one. -1 are code points that NFKC changes, that
    may combine with the preceding one (combining marks, Hangul vowels), that lower to two code points, the sigma, whose lower case
    depends on its position, and those of rare planes."""
    seconds = {chr(point) for point in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for point in range(0x20000):
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
    folded = np.full(0x20000, -1, np.int32)
    for first, last in ((0, 0xD800), (0xE000, 0x10000), (0x1F000, 0x20000)):
        for point in range(first, last):
            char = chr(point)
            lower = char.lower()
            if (
                len(lower) == 1
                and char != "Σ"
                and unicodedata.is_normalized("NFKC", char)
                and unicodedata.combining(char) == 0
                and unicodedata.normalize("NFD", char)[0] not in seconds
            ):
                folded[point] = ord(lower)
    return folded


@numba.njit
def decode(data: Bytes, i: int | np.uint64) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return (code point at byte i of valid UTF-8, or `ABOVE`; its number of bytes)."""
    byte = int(data[i])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | int(data[i + 1] & 0x3F), 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | int(data[i + 1] & 0x3F) << 6 | int(data[i + 2] & 0x3F), 3
    return ABOVE, 4


@numba.njit
def decode_any(data: Bytes, i: np.uint64) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return (code point at byte i of valid UTF-8, of any plane; its number of bytes)."""
    point, width = decode(data, i)
    if width < 4:
        return point, width
    tail = int(data[i + np.uint64(2)] & 0x3F) << 6 | int(data[i + np.uint64(3)] & 0x3F)
    return int(data[i] & 0x07) << 18 | int(data[i + np.uint64(1)] & 0x3F) << 12 | tail, 4


@numba.njit
def encode(point: int, out: Bytes, n: np.uint64) -> int:  # pragma: no cover (compiled)
    """Write a code point as UTF-8 from `out[n]` on; return its number of bytes."""
    if point < 0x80:
        out[n] = point
        return 1
    if point < 0x800:
        out[n] = 0xC0 | point >> 6
        out[n + np.uint64(1)] = 0x80 | (point & 0x3F)
        return 2
    if point < 0x10000:
        out[n] = 0xE0 | point >> 12
        out[n + np.uint64(1)] = 0x80 | (point >> 6 & 0x3F)
        out[n + np.uint64(2)] = 0x80 | (point & 0x3F)
        return 3
    out[n] = 0xF0 | point >> 18
    out[n + np.uint64(1)] = 0x80 | (point >> 12 & 0x3F)
    out[n + np.uint64(2)] = 0x80 | (point >> 6 & 0x3F)
    out[n + np.uint64(3)] = 0x80 | (point & 0x3F)
    return 4
