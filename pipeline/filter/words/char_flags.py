"""Flags of each code point for the rule filters: a table for the basic plane, with one more entry for everything above it.

In: nothing. Out: 65,537 bit sets (256 KiB, built on first use from `unicodedata` and the lists below). They follow the
conventions of datatrove's filters and spaCy's English tokenizer, so that decisions agree (docs/filters.md lists the differences).
"""

from __future__ import annotations

import string
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.text.letters import ABOVE, UNSPACED_SCRIPTS

CharFlags = npt.NDArray[np.uint32]

SPACE, LOWER, UPPER, DIGIT = 1, 2, 4, 8  # str.isspace; letters of caseless scripts are both lower and upper; 0 to 9
OPENS, CLOSES, QUOTE, ICON = 16, 32, 64, 128  # split off the start of a word; off its end; quotation marks; pictographs
CURRENCY, LETTER, SYMBOL, PUNCTUATION = 256, 512, 1024, 2048  # LETTER: str.isalpha; PUNCTUATION: Unicode's category P
ENDS_SENTENCE, ENDS_LINE, BREAKS_LINE, BEFORE_DOT = 4096, 8192, 16384, 32768  # a dot after BEFORE_DOT is split off
HOST, JOINS = 65536, 131072  # allowed in a host name; `:<>=/` split a word before a letter
NUMERAL, INNER = 262144, 524288  # Unicode's category Nd; may split a word at all (set for ASCII only)
UNSPACED_BIT, UNSPACED = (
    20,
    7 << 20,
)  # three bits: the kind of a letter of a script without spaces between words, else 0
EXTENDS, HOLDS, SEPARATES = 1 << 23, 1 << 24, 1 << 25  # never starts such a word; never ends one; always ends one

_PUNCTUATION = ",:;!?()[]{}<>_#*&…¿؟¡。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"`”“‘´’‚„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_CURRENCY = "$£€¥฿﷼" + "".join(map(chr, range(0x20A0, 0x20C0)))
_SYMBOLS = string.punctuation + "«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～"
# Caseless scripts that are split like Latin letters.
_UNCASED = (
    (0x0591, 0x05F4),  # Hebrew
    (0x0620, 0x064A),  # Arabic
    (0x066E, 0x06D5),
    (0x06E5, 0x06FF),
    (0x0750, 0x077F),
    (0x0900, 0x09FF),  # Devanagari, Bengali
    (0x0B80, 0x0CFF),  # Tamil, Telugu, Kannada
    (0x0D80, 0x0DFF),  # Sinhala
    (0x1100, 0x137F),  # Hangul, Ethiopic
    (0x2E80, 0x2FDF),  # Han, kana, Bopomofo
    (0x2FF0, 0x30FF),
    (0x31C0, 0x31EF),
    (0x3200, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),  # Hangul
    (0xF900, 0xFAFF),
    (0xFB1D, 0xFDFB),
    (0xFE30, 0xFE4F),
    (0xFE70, 0xFEFC),
)
# Unicode's Sentence_Terminal in the basic plane.
_SENTENCE_ENDS = (
    *(0x21, 0x2E, 0x3F, 0x589, 0x61F, 0x6D4, 0x700, 0x701, 0x702, 0x7F9, 0x964, 0x965, 0x104A, 0x104B, 0x1362),
    *(0x1367, 0x1368, 0x166E, 0x1735, 0x1736, 0x1803, 0x1809, 0x1944, 0x1945, 0x1AA8, 0x1AA9, 0x1AAA, 0x1AAB, 0x1B5A),
    *(0x1B5B, 0x1B5E, 0x1B5F, 0x1C3B, 0x1C3C, 0x1C7E, 0x1C7F, 0x203C, 0x203D, 0x2047, 0x2048, 0x2049, 0x2E2E, 0x2E3C),
    *(0x3002, 0xA4FF, 0xA60E, 0xA60F, 0xA6F3, 0xA6F7, 0xA876, 0xA877, 0xA8CE, 0xA8CF, 0xA92F, 0xA9C8, 0xA9C9, 0xAA5D),
    *(0xAA5E, 0xAA5F, 0xAAF0, 0xAAF1, 0xABEB, 0xFE52, 0xFE56, 0xFE57, 0xFF01, 0xFF0E, 0xFF1F, 0xFF61),
)
# These end a line of prose too, but separate no sentences: Khmer and Balinese signs and some newer ones.
_LINE_ENDS = (
    *(0x61D, 0x61E, 0x837, 0x839, 0x83D, 0x83E, 0x17D4, 0x17D5, 0x17D6),
    *(0x17D9, 0x17DA, 0x1B7D, 0x1B7E, 0x2E53, 0x2E54),
)
# Vowels written before their consonant, and signs that subscribe the next consonant.
_HOLDS = (*range(0x0E40, 0x0E45), *range(0x0EC0, 0x0EC5), 0x1039, 0x17D2, 0x1A60, 0x1B44, 0xA9C0)
_SEPARATES = (
    0x0F0B,
    0x0F0C,
    0x200B,
)  # between syllables in Tibetan; zero-width space: between words, in Khmer and others


@cache
def load_char_flags() -> CharFlags:
    """Return the flags of the first 65,536 code points, and at `ABOVE` those of all others (mostly pictographs)."""
    table = np.zeros(ABOVE + 1, np.uint32)
    for point in range(ABOVE):
        table[point] = _classify_char(chr(point))
    for first, last in _UNCASED:
        table[first : last + 1] |= LOWER | UPPER
    for signs, bits in (
        (_PUNCTUATION, OPENS | CLOSES | BEFORE_DOT),
        (_QUOTES, OPENS | CLOSES | QUOTE | BEFORE_DOT),
        (_CURRENCY, OPENS | CURRENCY),
        ("§%=—–", OPENS),
        ("—–", CLOSES),
        ("%²-+|", BEFORE_DOT),
        (_SYMBOLS, SYMBOL),
        ("-_", HOST),
        (":<>=/", JOINS),
        (".,-+*^~:<>=/", INNER),
    ):
        for sign in signs:
            table[ord(sign)] |= bits
    table[list(_SENTENCE_ENDS)] |= ENDS_SENTENCE | ENDS_LINE | SYMBOL
    table[list(_LINE_ENDS)] |= ENDS_LINE | SYMBOL
    table[[*range(9), 11, 12, *range(13, 32), *range(127, 160)]] |= SYMBOL
    for first, last, kind in UNSPACED_SCRIPTS:
        unspaced = [point for point in range(first, last + 1) if unicodedata.category(chr(point))[0] in "LM"]
        table[unspaced] |= kind << UNSPACED_BIT
    table[list(_HOLDS)] |= HOLDS
    table[list(_SEPARATES)] |= SEPARATES
    table[(table & (LOWER | DIGIT)) != 0] |= BEFORE_DOT
    table[ABOVE] = ICON | OPENS | CLOSES
    return table


def _classify_char(letter: str) -> int:
    """Return the flags that follow from Unicode's properties."""
    category = unicodedata.category(letter)
    bits = SPACE if letter.isspace() else 0
    bits |= LETTER if letter.isalpha() else 0
    bits |= LOWER if category == "Ll" else UPPER if category in ("Lu", "Lt") else 0
    bits |= DIGIT if "0" <= letter <= "9" else 0
    bits |= PUNCTUATION if category[0] == "P" else 0
    bits |= ICON | OPENS | CLOSES if category == "So" else 0
    bits |= NUMERAL if category == "Nd" else 0
    bits |= EXTENDS if category[0] == "M" or category == "Lm" or letter in "\u200c\u200d" else 0
    bits |= BREAKS_LINE if len(f"a{letter}a".splitlines()) == 2 else 0
    return bits | (HOST if letter >= "¡" or (letter.isascii() and letter.isalnum()) else 0)
