"""What each code point is to us: symbol, space, letter, digit, or a letter of a script that sets no spaces.

One table for the basic plane (64 KiB, built on first use from `unicodedata`), and one entry more for everything above it:
nearly all of that is pictographs, which stand alone as words and are no letters.

Numba's cache looks at the file that a kernel is in, not at the files of the functions it calls: after an edit of `decode`,
delete `pipeline/text/__pycache__`.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numba
import numpy as np

from pipeline.text.columns import Bytes

SYMBOL, SPACE, LETTER, DIGIT, SOLO, PICTOGRAPH = 0, 1, 2, 3, 4, 5
ABOVE = 0x10000  # what `decode` says of every code point above the basic plane

_SPACELESS = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x31FF),  # kana, Bopomofo, and their extensions
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
)


@cache
def letter_classes() -> Bytes:
    """The class of each of the first 65,536 code points, and at `ABOVE` that of all others."""
    classes = np.zeros(ABOVE + 1, dtype=np.uint8)
    classes[ABOVE] = PICTOGRAPH
    for point in range(ABOVE):
        letter = chr(point)
        category = unicodedata.category(letter)
        if category[0] in "LM":
            classes[point] = LETTER
        elif category[0] == "N" or letter == "_":
            classes[point] = DIGIT
        elif letter.isspace():
            classes[point] = SPACE
        elif category == "So" and 0x2600 <= point < 0x2800:
            classes[point] = PICTOGRAPH
    for first, last in _SPACELESS:
        spaceless = classes[first : last + 1]
        spaceless[spaceless == LETTER] = SOLO
    return classes


@numba.njit
def decode(data: Bytes, i: int) -> tuple[int, int]:  # pragma: no cover (compiled)
    """The code point at byte i of valid UTF-8, or `ABOVE`, and how many bytes it takes."""
    byte = int(data[i])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | int(data[i + 1] & 0x3F), 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | int(data[i + 1] & 0x3F) << 6 | int(data[i + 2] & 0x3F), 3
    return ABOVE, 4
