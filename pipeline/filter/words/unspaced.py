"""Cut words in scripts that do not separate them by spaces: at the mean word length of the script, equal text in equal places.

In: the bytes of a text and the position of such a letter. Out: where the word that starts there ends. Compiled; words.py calls it.

A dictionary would be large, slow and one per language. The rules need the number of words, their mean length, and that a repeated
phrase is a repeated sequence of words. So a word ends where a hash of its last two characters and the next letter is below a limit
(content-defined chunking: Muthitacharoen et al. 2001). The limits are set for each kind of script such that words are on average as
long as those of ICU's dictionaries (`N_CUT`). A repeated phrase is cut in the same places wherever it is, from its first common cut
on. Words also end where the script changes, at a zero-width space, after the mark between Tibetan syllables, and after `MAX_CHARS`
letters; never before a combining mark or after a vowel that is written before its consonant. Time: linear, about 3 ns per byte.
"""

from __future__ import annotations

import numpy as np

from pipeline.filter.words.char_flags import EXTENDS, HOLDS, SEPARATES, UNSPACED, UNSPACED_BIT, CharFlags
from pipeline.text.columns import Bytes
from pipeline.text.compiled import decode, leaf

# Of 256 hashes, how many end a word, by kind. Measured with ICU 78: mean word length in code points of Chinese 1.6, Japanese
# 1.7 (Han and hiragana 1.6, katakana 3.5), Thai and Lao 4.2, Khmer and Burmese 5.0; a Tibetan syllable has 2.9.
N_CUT = (0, 150, 38, 70, 84, 0)
MAX_CHARS = 16


@leaf
def find_unspaced_end(data: Bytes, i: int, stop: int, table: CharFlags) -> int:  # pragma: no cover (compiled)
    """Return the end of the word that starts with the letter at byte i, whose script has no spaces between words."""
    last, width = decode(data, i)
    bits = table[last]
    kind, n_chars, recent = bits & np.uint32(UNSPACED), 1, np.uint64(last)
    limit = np.uint64(N_CUT[kind >> np.uint32(UNSPACED_BIT)])
    i += width
    while i < stop:
        point, width = decode(data, i)
        next_bits = table[point]
        if next_bits & SEPARATES:
            return i + width
        recent = (recent << np.uint64(16) | np.uint64(point)) & np.uint64(0xFFFFFFFFFFFF)  # three characters
        if not next_bits & EXTENDS:
            if next_bits & UNSPACED != kind or n_chars >= MAX_CHARS:
                return i
            mixed = recent * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            if not bits & HOLDS and mixed >> np.uint64(56) < limit:
                return i
            n_chars += 1
        bits = next_bits
        i += width
    return i
