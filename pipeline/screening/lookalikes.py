"""Map letters that look like Latin ones to these, and drop characters that are not visible.

In: nothing. Out: one table over code points, built on first use. Sources: for letters Unicode's confusables.txt (UTS #39), reduced
to single letters of the Latin, Greek, Cyrillic, Armenian, Coptic, Cherokee and Lisu scripts that resemble one ASCII letter, plus
small capitals and lower-case letters that resemble a Latin capital (Cyrillic в, к, м, н, т); for accents the
decomposition; for invisible characters the property Default_Ignorable_Code_Point.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

N_POINTS = 0x10000
DROPPED = -1

_LOOKALIKES = {
    "A": "ΑАᎪꓮ", "B": "ΒВᏴꓐꞴ", "C": "СᏟⲤꓚ", "D": "Ꭰꓓ", "E": "ΕЕᎬꓰ", "F": "Ϝꓝ", "G": "ԌᏀꓖ", "H": "ΗНᎻⲎꓧ", "I": "ΙІӀƖⲒ",
    "J": "ͿЈᎫꓙ", "K": "ΚКᏦⲔꓗ", "L": "ᏞⳐꓡ", "M": "ΜϺМᎷⲘꓟ", "N": "ΝⲚꓠ", "O": "ΟОՕⲞꓳ", "P": "ΡРᏢⲢꓑ", "R": "ƦᎡᏒꓣ", "S": "ЅՏᏕᏚꓢ",
    "T": "ΤТᎢⲦꓔ", "U": "Սꓴ", "V": "ѴᏙꓦ", "W": "ԜᎳꓪ", "X": "ΧХⲬꓫ", "Y": "ΥУҮᎩⲨꓬ", "Z": "ΖᏃꓜ",
    "a": "ɑαаᴀ", "b": "ƄЬьвβʙᏏ", "c": "сᴄⲥ", "d": "ԁᏧᴅ", "e": "еεҽᴇ", "f": "քғꜰ", "g": "ɡցᶃɢ", "h": "һհнʜᏂ", "i": "ıɩɪιіᎥ",
    "j": "јϳᴊ", "k": "кκᴋ", "l": "ӏǀʟ", "m": "мᴍ", "n": "ոռηпɴ", "o": "οσςоօᴏⲟ", "p": "ρрᴘⲣ", "q": "ԛգզǫ", "r": "гᴦʀⲅ",
    "s": "ѕꜱƽ", "t": "тτᴛ", "u": "ʋυսᴜμ", "v": "νѵᴠ", "w": "ɯѡԝաωᴡ", "x": "хχ", "y": "уүγʏყ", "z": "ᴢ",
}  # fmt: skip
_INVISIBLE = (
    *(
        (0x00AD, 0x00AD),
        (0x0300, 0x036F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x200B, 0x200F),
    ),
    *(
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF0, 0xFFFB),
    ),
)


@cache
def build_lookalikes() -> npt.NDArray[np.int32]:
    """Return for each code point of the Basic Multilingual Plane the one that replaces it, often itself, or `DROPPED`.

    Combining accents (U+0300 to U+036F) are dropped; compatibility characters are mapped if they stand for a single one."""
    table = np.arange(N_POINTS, dtype=np.int32)
    for letter, lookalikes in _LOOKALIKES.items():
        table[[ord(char) for char in lookalikes]] = ord(letter.lower())
    for char in "".join(_LOOKALIKES.values()):  # a word must stay the same word in capitals
        lower, upper = char.lower(), char.upper()
        if len(lower) == len(upper) == 1 and ord(upper) >= 0x80:
            table[ord(upper)] = table[ord(lower)] = (
                table[ord(lower)] if table[ord(lower)] != ord(lower) else table[ord(upper)]
            )
    for point in (*range(0x80, 0xD800), *range(0xE000, N_POINTS)):
        base, *marks = unicodedata.normalize("NFKD", chr(point))
        if all(0x300 <= ord(mark) < 0x370 for mark in marks) and ord(base) < N_POINTS:
            table[point] = table[ord(base)]
    for first, last in _INVISIBLE:
        table[first : last + 1] = DROPPED
    return table
