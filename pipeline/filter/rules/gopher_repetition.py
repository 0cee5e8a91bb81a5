"""Gopher's repetition rules as figures of one text: does it say the same thing again and again? (Rae et al. 2021, table A1)

In: the bytes of a text and the hashes of its words (pipeline/filter/words/words.py). Out: one fraction a rule, named as its parameter is
without the `max_`. Compiled; pipeline/filter/rules/gopher.py runs it over columns. The definitions are datatrove's:

- `dup_line_frac`: lines that occurred before, of all lines; `dup_line_char_frac`: their characters, of all characters of the
  text. Lines are what runs of newlines part. The same for paragraphs, which two newlines or more part.
- `top_{n}gram_char_frac`: the commonest n-gram's characters (words and one space between) times its count, of the text's. Where
  several are equally common the first one counts; one that occurs less than `top_ngram_from_count` times is no repetition (1 is
  datatrove's reading: it drops every short text).
- `dup_{n}gram_char_frac`: walking through the words, an n-gram seen before adds its words' characters and is stepped over; any
  other is remembered and the walk goes on one word further.

An n-gram can only be repeated where both (n-1)-grams in it are, so every step from n - 1 to n looks only at those: linear time, and
in prose nearly all of it is the table of 2-grams. Memory: a table of two slots a word.
"""

from __future__ import annotations

import numpy as np

from pipeline.filter.words.char_flags import CharFlags
from pipeline.filter.words.known_words import hash_word
from pipeline.filter.words.words import strip_whitespace
from pipeline.text.columns import Bytes, Fractions, Hashes, Rows
from pipeline.text.compiled import find_newline, leaf

LINE_SCORES = ("dup_line_frac", "dup_line_char_frac", "dup_paragraph_frac", "dup_paragraph_char_frac")

_MIX = np.uint64(0x9E3779B97F4A7C15)


@leaf
def compute_table_size(n_items: int) -> int:  # pragma: no cover (compiled)
    """Slots for so many items: a power of two, at most half of them taken."""
    size = 16
    while size < 2 * n_items:
        size *= 2
    return size


@leaf
def find_slot(
    keys: Hashes, stamps: Rows, stamp: int, mask: np.uint64, key: np.uint64
) -> int:  # pragma: no cover (compiled)
    """Where `key` is in the open table of this `stamp`, or the free slot where it belongs."""
    at = (key ^ (key >> np.uint64(32))) & mask
    while stamps[at] == stamp and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return int(at)


@leaf
def insert_key(
    keys: Hashes, stamps: Rows, stamp: int, mask: np.uint64, key: np.uint64
) -> bool:  # pragma: no cover (compiled)
    """Adds the key; False if it was there."""
    at = find_slot(keys, stamps, stamp, mask, key)
    if stamps[at] == stamp:
        return False
    keys[at], stamps[at] = key, stamp
    return True


@leaf
def count_chars(data: Bytes, start: int, stop: int) -> int:  # pragma: no cover (compiled)
    n = 0
    for i in range(start, stop):
        n += (data[i] & 0xC0) != 0x80
    return n


@leaf
def count_byte(data: Bytes, start: int, stop: int, byte: int) -> int:  # pragma: no cover (compiled)
    n = 0
    for i in range(start, stop):
        n += data[i] == byte
    return n


@leaf
def _measure_repeated_parts(
    data: Bytes, start: int, stop: int, min_breaks: int, keys: Hashes, stamps: Rows, stamp: int, mask: np.uint64
) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """Of what runs of at least so many newlines part: how many, how many occurred before, and their characters."""
    n, n_repeated, n_chars = 0, 0, 0
    part = i = start
    while True:
        end = i = find_newline(data, i, stop)
        while i < stop and data[i] == 10:
            i += 1
        if i - end >= min_breaks or i >= stop:
            is_run = i - end >= min_breaks
            end = end if is_run else stop
            for extra in range(2 if is_run and i >= stop else 1):  # newlines at the end: an empty part follows
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
    """Fills `LINE_SCORES`. Uses the stamps `stamp` and `stamp + 1`."""
    mask = np.uint64(compute_table_size(n_breaks + 2) - 1)
    n_chars = max(count_chars(data, start, stop), 1)
    n, n_repeated, chars = _measure_repeated_parts(data, start, stop, 1, keys, stamps, stamp, mask)
    out[0], out[1] = n_repeated / n, chars / n_chars
    start, stop = strip_whitespace(data, start, stop, table)
    n, n_repeated, chars = _measure_repeated_parts(data, start, stop, 2, keys, stamps, stamp + 1, mask)
    out[2], out[3] = n_repeated / n, chars / n_chars


@leaf
def _count_ngram_chars(chars: Rows, i: int, n: int) -> int:  # pragma: no cover (compiled)
    total = 0
    for k in range(i, i + n):
        total += chars[k]
    return total


@leaf
def _count_repeated_chars(
    n: int, positions: Rows, slots: Rows, m: int, firsts: Rows, chars: Rows
) -> int:  # pragma: no cover (compiled)
    """Characters of n-grams that were seen before, none counted twice."""
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
    """Fills the figures of n-grams. `tops`, `dups`: for each n the place of its figure in `out`, or -1. Uses `len(tops)` stamps."""
    n_max = len(tops) - 1
    m, n = n_words, 0
    mask = np.uint64(compute_table_size(n_words) - 1)
    while n < n_max:
        n += 1
        if n == 1 and n_max > 1 and tops[1] < 0 and dups[1] < 0:
            continue
        most, earliest, n_grams = 1, 0, 0
        is_whole = n == 1 or (n == 2 and tops[1] < 0 and dups[1] < 0)  # every place, no list of those that are left
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
