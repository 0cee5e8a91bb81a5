"""Gopher's repetition rules as scores of one text: does it repeat itself? (Rae et al. 2021, table A1)

In: the bytes of a text and the hashes of its words (pipeline/filter/words/words.py). Out: one fraction per rule, named like its
parameter without `max_`. Compiled; pipeline/filter/rules/gopher.py runs it over columns. The definitions are datatrove's:

- `dup_line_frac`: lines that occurred before, as a fraction of all lines; `dup_line_char_frac`: their characters, as a fraction of
  the text's. Lines are separated by one or more newlines; paragraphs, scored likewise, by two or more.
- `top_{n}gram_char_frac`: characters of the most frequent n-gram (words and single spaces) times its count, as a fraction of the
  text's characters. The first n-gram wins a tie; one that occurs less than `top_ngram_from_count` times is no repetition (1 is
  datatrove's interpretation, which drops every short text).
- `dup_{n}gram_char_frac`: scanning the words, an n-gram seen before adds its words' characters and is skipped; any other is
  remembered and the scan advances by one word.

An n-gram can be repeated only where both of its (n-1)-grams are, so each step from n - 1 to n visits only those: linear time, of
which the table of 2-grams takes nearly all in prose. Memory: a hash table of two slots per word.
"""

from __future__ import annotations

import numpy as np

from pipeline.filter.words.char_flags import CharFlags
from pipeline.filter.words.known_words import hash_word
from pipeline.filter.words.words import count_chars, strip_whitespace
from pipeline.text.columns import Bytes, Fractions, Hashes, Rows
from pipeline.text.compiled import find_newline, leaf

LINE_SCORES = ("dup_line_frac", "dup_line_char_frac", "dup_paragraph_frac", "dup_paragraph_char_frac")

_MIX = np.uint64(0x9E3779B97F4A7C15)


@leaf
def compute_table_size(n_items: int) -> int:  # pragma: no cover (compiled)
    """Return the slots of a hash table: a power of two, at least twice the number of items."""
    size = 16
    while size < 2 * n_items:
        size *= 2
    return size


@leaf
def find_slot(
    keys: Hashes, stamps: Rows, stamp: int, mask: np.uint64, key: np.uint64
) -> int:  # pragma: no cover (compiled)
    """Return the slot of `key` in the open-addressing table of this `stamp`, or the free slot where it belongs."""
    at = (key ^ (key >> np.uint64(32))) & mask
    while stamps[at] == stamp and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return int(at)


@leaf
def insert_key(
    keys: Hashes, stamps: Rows, stamp: int, mask: np.uint64, key: np.uint64
) -> bool:  # pragma: no cover (compiled)
    """Insert the key. Return False if it was present."""
    at = find_slot(keys, stamps, stamp, mask, key)
    if stamps[at] == stamp:
        return False
    keys[at], stamps[at] = key, stamp
    return True


@leaf
def count_byte(data: Bytes, start: int, stop: int, byte: int) -> int:  # pragma: no cover (compiled)
    """Return how often the byte occurs."""
    n = 0
    for i in range(start, stop):
        n += data[i] == byte
    return n


@leaf
def _measure_repeated_parts(
    data: Bytes, start: int, stop: int, min_breaks: int, keys: Hashes, stamps: Rows, stamp: int, mask: np.uint64
) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """Split at runs of at least `min_breaks` newlines. Return (parts, parts that occurred before, characters of these)."""
    n, n_repeated, n_chars = 0, 0, 0
    part = i = start
    while True:
        end = i = find_newline(data, i, stop)
        while i < stop and data[i] == 10:
            i += 1
        if i - end >= min_breaks or i >= stop:
            is_run = i - end >= min_breaks
            end = end if is_run else stop
            for extra in range(2 if is_run and i >= stop else 1):  # after trailing newlines comes an empty part
                first = part if extra == 0 else stop
                last = end if extra == 0 else stop
                n += 1
                if not insert_key(keys, stamps, stamp, mask, hash_word(data, first, last)):
                    n_repeated += 1
                    n_chars += count_chars(data, first, last)
            part = i
            if i >= stop:
                return n, n_repeated, n_chars


@leaf
def measure_lines(
    data: Bytes,
    start: int,
    stop: int,
    table: CharFlags,
    keys: Hashes,
    stamps: Rows,
    stamp: int,
    n_breaks: int,
    out: Fractions,
) -> None:  # pragma: no cover (compiled)
    """Fill `LINE_SCORES`, using the stamps `stamp` and `stamp + 1`."""
    mask = np.uint64(compute_table_size(n_breaks + 2) - 1)
    n_chars = max(count_chars(data, start, stop), 1)
    n, n_repeated, chars = _measure_repeated_parts(data, start, stop, 1, keys, stamps, stamp, mask)
    out[0], out[1] = n_repeated / n, chars / n_chars
    start, stop = strip_whitespace(data, start, stop, table)
    n, n_repeated, chars = _measure_repeated_parts(data, start, stop, 2, keys, stamps, stamp + 1, mask)
    out[2], out[3] = n_repeated / n, chars / n_chars


@leaf
def _count_ngram_chars(chars: Rows, i: int, n: int) -> int:  # pragma: no cover (compiled)
    """Return the characters of the n words from word i on."""
    total = 0
    for k in range(i, i + n):
        total += chars[k]
    return total


@leaf
def _count_repeated_chars(
    n: int, positions: Rows, slots: Rows, m: int, firsts: Rows, chars: Rows
) -> int:  # pragma: no cover (compiled)
    """Return the characters of n-grams that were seen before, without overlaps."""
    repeated, free = 0, 0
    for k in range(m):
        i, at = positions[k], slots[k]
        if i < free:
            continue
        if firsts[at] < 0:
            repeated += _count_ngram_chars(chars, i, n)
            free = i + n
        else:
            firsts[at] = -1
    return repeated


@leaf
def measure_ngrams(
    n_words: int,
    hashes: Hashes,
    chars: Rows,
    n_chars: int,
    from_count: int,
    tops: Rows,
    dups: Rows,
    keys: Hashes,
    stamps: Rows,
    stamp: int,
    counts: Rows,
    firsts: Rows,
    positions: Rows,
    slots: Rows,
    out: Fractions,
) -> None:  # pragma: no cover (compiled)
    """Fill the scores of n-grams, using `len(tops)` stamps. `tops` and `dups` map each n to its index in `out`, or -1."""
    n_max = len(tops) - 1
    m, n = n_words, 0
    mask = np.uint64(compute_table_size(n_words) - 1)
    while n < n_max:
        n += 1
        if n == 1 and n_max > 1 and tops[1] < 0 and dups[1] < 0:
            continue
        most, earliest, n_grams = 1, 0, 0
        is_whole = n == 1 or (
            n == 2 and tops[1] < 0 and dups[1] < 0
        )  # every position; later steps visit the remaining ones
        for k in range(max(n_words - n + 1, 0) if is_whole else m - 1):
            if is_whole:
                i = k
                key = hashes[i] if n == 1 else hashes[i] * _MIX + hashes[i + 1]
            else:
                i = positions[k]
                if positions[k + 1] != i + 1:
                    continue
                key = (np.uint64(slots[k]) << np.uint64(32) | np.uint64(slots[k + 1])) * _MIX
            at = find_slot(keys, stamps, stamp + n, mask, key)
            if stamps[at] != stamp + n:
                keys[at], stamps[at], counts[at], firsts[at] = key, stamp + n, 0, i
            counts[at] += 1
            if counts[at] > most or (counts[at] == most and firsts[at] < earliest):
                most, earliest = counts[at], firsts[at]
            positions[n_grams], slots[n_grams] = i, at
            n_grams += 1
        if tops[n] >= 0 and n_words >= n and most >= from_count:
            out[tops[n]] = min(most * (_count_ngram_chars(chars, earliest, n) + n - 1) / n_chars, 1.0)
        if dups[n] >= 0 and most > 1:
            out[dups[n]] = _count_repeated_chars(n, positions, slots, n_grams, firsts, chars) / n_chars
        m = 0
        for k in range(n_grams):
            if counts[slots[k]] > 1:
                positions[m], slots[m] = positions[k], slots[k]
                m += 1
