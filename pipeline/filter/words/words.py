"""Tokenize words as the rule filters count them: English, with punctuation and contractions split as by spaCy's tokenizer.

In: the bytes of a text. Out: for each word its start and end, its hash and its flags. Characters that `OPENS` and `CLOSES` flag,
`'s`, and units after numbers are split off both ends of a run without white space. The rest is one word if it is a special word
(pipeline/filter/words/contractions.py) or an address; otherwise it is split at dots, commas, hyphens and `:<>=/` between letters.
Other languages are tokenized by the same rules. Where a script has no spaces between words, unspaced.py cuts words, which end other
words like white space does. Time: linear, about 5 ns per byte of prose.

Memory: arrays as long as the longest text, reused. Numba's cache checks the file of a kernel, not the files of the functions that
it calls: after editing a file of words/ or pipeline/text/letters.py, delete the `__pycache__` folders of words/ and rules/.
"""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from pipeline.filter.words.addresses import is_address
from pipeline.filter.words.affixes import count_closing_bytes, count_infix_bytes, count_opening_bytes
from pipeline.filter.words.char_flags import (
    ENDS_SENTENCE,
    INNER,
    LETTER,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    UNSPACED,
    CharFlags,
    load_char_flags,
)
from pipeline.filter.words.known_words import (
    MAX_SPECIAL,
    Lengths,
    find_known,
    find_special,
    hash_word,
    load_known_words,
)
from pipeline.filter.words.unspaced import find_unspaced_end
from pipeline.text.columns import Bytes, Hashes, Offsets, Rows, to_utf8
from pipeline.text.compiled import count_letters, decode, leaf

# The flags of a word.
HAS_LETTER, IS_WORDY, IS_PUNCTUATION, IS_END, IS_CUT = 1, 2, 4, 8, 16  # IS_CUT: its script has no spaces between words
COMMON_PUNCTUATION = (44, 46, 58, 59, 33, 63, 41)  # , . : ; ! ? )


def tokenize(text: str) -> list[str]:
    """Return the words of one text, for tests and inspection."""
    data, offsets = to_utf8(pa.array([text]))
    starts, ends, _, _, _ = _split(data, offsets, load_char_flags(), *load_known_words())
    return [bytes(data[i:j]).decode() for i, j in zip(starts.tolist(), ends.tolist(), strict=True)]


@leaf
def _add_pieces(lengths: np.uint32, i: int, starts: Rows, ends: Rows, n: int) -> int:  # pragma: no cover (compiled)
    """Append the pieces of a special word that starts at i. Return the number of words."""
    while lengths:
        starts[n] = i
        i += int(lengths & np.uint32(255))
        ends[n] = i
        lengths >>= np.uint32(8)
        n += 1
    return n


@leaf
def _cut_middle(
    data: Bytes, i: int, j: int, table: CharFlags, starts: Rows, ends: Rows, n: int
) -> int:  # pragma: no cover (compiled)
    """Append the parts of a word whose affixes are split off: split at infixes, unless it is an address."""
    is_checked, word, k = False, i, i
    while k < j:
        byte = data[k]
        if byte < 128 and not table[byte] & INNER:
            k += 1
            continue
        width = count_infix_bytes(data, k, i, j, table)
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
    table: CharFlags,
    keys: Hashes,
    pieces: Lengths,
    starts: Rows,
    ends: Rows,
    n: int,
) -> int:  # pragma: no cover (compiled)
    """Append the words of a run without white space. Return the number of words. Suffixes wait at the end of `starts`."""
    first, n_waiting, stop, size = n, 0, j, -1
    lengths = find_special(data, i, j, keys, pieces)
    while lengths == 0 and i < j and j - i != size:
        size = j - i
        opening = count_opening_bytes(data, i, j, table)
        if opening and opening < size:
            lengths = find_special(data, i + opening, j, keys, pieces)
            if lengths:
                starts[n], ends[n] = i, i + opening
                n, i = n + 1, i + opening
                break
        closing = count_closing_bytes(data, i + opening, j, table, keys, pieces)
        if closing and closing < size:
            lengths = find_special(data, i, j - closing, keys, pieces)
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
            lengths = find_special(data, i, j, keys, pieces)
    n = _add_pieces(lengths, i, starts, ends, n) if lengths else _cut_middle(data, i, j, table, starts, ends, n)
    for k in range(n_waiting, 0, -1):
        starts[n], ends[n] = starts[-k], starts[-(k - 1)] if k > 1 else stop
        n += 1
    return _join(data, first, n, keys, pieces, starts, ends) if n - first > 1 else n


@leaf
def _join(
    data: Bytes, first: int, n: int, keys: Hashes, pieces: Lengths, starts: Rows, ends: Rows
) -> int:  # pragma: no cover (compiled)
    """Merge neighbors that together form a special word, such as `)` and `:`, and split them into its pieces."""
    k = first
    while k < n - 1:
        following = data[starts[k + 1]]
        if ends[k] - starts[k] > 3 and following != 46 and following != 47:  # no special word begins like this
            k += 1
            continue
        for m in range(min(n, k + 4) - 1, k, -1):
            lengths = find_special(data, starts[k], ends[m], keys, pieces)
            if lengths and lengths >> np.uint32(8):  # several pieces: 12p.m, . → 12, p.m.
                _add_pieces(lengths, starts[k], starts, ends, k)
                k = m
                break
            if lengths:
                ends[k] = ends[m]
                for rest in range(m + 1, n):
                    starts[rest - m + k], ends[rest - m + k] = starts[rest], ends[rest]
                n -= m - k
                break
        k += 1
    return n


@leaf
def count_chars(data: Bytes, start: int, stop: int) -> int:  # pragma: no cover (compiled)
    """Return the number of code points."""
    n = 0
    for i in range(start, stop):
        n += (data[i] & 0xC0) != 0x80
    return n


@leaf
def describe_word(data: Bytes, i: int, j: int, table: CharFlags) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return the code points and the flags of a word."""
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
    table: CharFlags,
    keys: Hashes,
    pieces: Lengths,
    starts: Rows,
    ends: Rows,
    hashes: Hashes,
    chars: Rows,
    kinds: Bytes,
) -> int:  # pragma: no cover (compiled)
    """Fill the five arrays (each longer than the text in bytes) with the words of bytes `start` to `stop`. Return their number."""
    n, i = 0, start
    while i < stop:
        first = i
        i += count_letters(data, i, stop)
        if i > first:  # letters, an optional punctuation character, a space: most words
            end = i + (i < stop and data[i] != 32 and data[i] in COMMON_PUNCTUATION)
            if (end == stop or data[end] == 32 or data[end] == 10) and (
                end == i or data[i] != 46 or (data[i - 1] >= 97 and not find_special(data, first, end, keys, pieces))
            ):
                key = hash_word(data, first, i)
                lengths = find_known(keys, pieces, key) if i - first <= MAX_SPECIAL else np.uint32(0)
                if lengths == 0 or lengths == np.uint32(i - first):
                    starts[n], ends[n], hashes[n], chars[n], kinds[n] = first, i, key, i - first, HAS_LETTER | IS_WORDY
                    n += 1
                    if end > i:
                        kind = IS_PUNCTUATION | IS_END if data[i] in (46, 33, 63) else IS_PUNCTUATION
                        starts[n], ends[n], hashes[n], chars[n], kinds[n] = i, end, hash_word(data, i, end), 1, kind
                        n += 1
                    i = end + (end < stop and data[end] == 32)
                    continue
        while i < stop:
            byte = data[i]
            if byte < 128:
                if table[byte] & SPACE:
                    break
                i += 1
            else:
                point, width = decode(data, i)
                if table[point] & (SPACE | UNSPACED):
                    break
                i += width
        if i > first:
            last = n
            n = _cut(data, first, i, table, keys, pieces, starts, ends, n)
            for word in range(last, n):
                hashes[word] = hash_word(data, starts[word], ends[word])
                chars[word], kinds[word] = describe_word(data, starts[word], ends[word], table)
            continue
        point, width = decode(data, i)
        if not table[point] & UNSPACED:
            i += width
            continue
        i = find_unspaced_end(data, i, stop, table)
        starts[n], ends[n], hashes[n] = first, i, hash_word(data, first, i)
        chars[n], kind = describe_word(data, first, i, table)
        kinds[n] = kind | IS_CUT
        n += 1
    return n


@leaf
def strip_whitespace(
    data: Bytes, start: int, stop: int, table: CharFlags
) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Return the range of bytes without surrounding white space."""
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
    data: Bytes, offsets: Offsets, table: CharFlags, keys: Hashes, pieces: Lengths
) -> tuple[Rows, Rows, Hashes, Rows, Bytes]:  # pragma: no cover (compiled)
    """Return the words of the first row."""
    size = offsets[1] - offsets[0] + 8
    starts, ends, hashes = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.uint64)
    chars, kinds = np.empty(size, np.int64), np.empty(size, np.uint8)
    n = cut_words(data, offsets[0], offsets[1], table, keys, pieces, starts, ends, hashes, chars, kinds)
    return starts[:n], ends[:n], hashes[:n], chars[:n], kinds[:n]
