"""Find documents that share word n-grams with evaluation sets.

In: the words (`match_words.extract_match_words(texts)`) of evaluation items, then of documents. Out: for each document the
number of n-grams shared with evaluation sets, in total and by set, the fraction of its words inside them, and the first item found.
Source: Brown et al. 2020 (GPT-3), appendix C, with n = 13; an item shorter than n words is matched as a whole if it has at least
`min_words`. An n-gram with more than half numbers is no evidence ("1 2 2 2 2 …" occurs in a mathematics exercise and in the
documentation of an array) and is ignored.

Items are also indexed without the spaces between their letters, as words that end after each e or t. So are runs of single letters
in documents ("T h e  c a t"), which are the only place where these are looked up.

A matching n-gram is attributed to the first set and item that contain it. Two n-grams are equal if 128 bits of hashes are: a
rolling hash and XXH64 of the words. Nearly every word of a document needs a single lookup, which shows that no n-gram ends with
the last `min_words` words.

Memory: about 120 bytes per n-gram of the sets, nothing per document. Time: linear in the words. Covers: differences in case,
spacing, punctuation and compatibility characters, and what match_words.py undoes. Does not cover: translations, paraphrases,
inserted words, items shorter than `min_words` or made of numbers. False positives: a common phrase of n words that an item
contains too.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.screening.match_words import find_spaced_rows, join_letters, join_spaced_letters
from pipeline.text.columns import Bytes, Fractions, Hashes, Offsets, Rows, to_utf8
from pipeline.text.hashing import xxh64

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_RING = 64  # size of the history in words: more than the longest n-gram


class Leaks(NamedTuple):
    """The distinct n-grams of evaluation sets, in the order of sets and items, and lookup tables for them."""

    keys: Hashes  # rolling hashes
    checks: Hashes  # XXH64 of the words joined by single spaces
    sizes: Rows  # in words
    ends: Hashes  # rolling hashes of the last `end_words` words
    items: Rows  # indices into `labels`
    labels: list[str]  # `set:item`
    set_of_item: Rows  # indices into `sets`
    sets: tuple[str, ...]
    end_words: int
    n_too_short: Rows  # per set, the items that can't be matched: too short, or numbers
    lengths: Rows  # the distinct `sizes`, ascending
    slots: npt.NDArray[np.int32]
    bits: Bytes
    joined: Leaks | None = None  # of the same items without the spaces between their letters


def build_leaks(
    words: pa.StringArray,
    labels: Sequence[str],
    set_of_row: Rows,
    sets: Sequence[str],
    *,
    ngram_words: int,
    min_words: int,
) -> Leaks:
    """Build the n-grams and tables from the items' words: one row per item, or one per field with the item's label."""
    assert min_words <= ngram_words < _RING, (
        "min_words must not exceed ngram_words, which must be less than the history"
    )
    names = list(labels), set_of_row, tuple(sets), min_words
    leaks, joined = (_build(each, names, ngram_words) for each in (words, join_letters(words)))
    return leaks._replace(joined=joined)


def _build(words: pa.StringArray, names: tuple[list[str], Rows, tuple[str, ...], int], ngram_words: int) -> Leaks:
    """Return the n-grams of the words; `names` are labels, sets of the rows, sets, and `min_words`."""
    labels, set_of_row, sets, min_words = names
    data, offsets = to_utf8(words)
    keys, checks, sizes, ends, rows = _hash_item_ngrams(data, offsets, ngram_words, min_words)
    has_ngram = np.zeros(len(words), np.bool_)
    has_ngram[rows] = True
    slots, bits = _make_tables(len(keys))
    is_first = _fill(keys, checks, ends, slots, bits)
    n_too_short = np.bincount(set_of_row[~has_ngram], minlength=len(sets)).astype(np.int64)
    keys, checks, sizes, ends, rows = (column[is_first] for column in (keys, checks, sizes, ends, rows))
    return _index_ngrams(keys, checks, sizes, ends, rows, labels, set_of_row, sets, min_words, n_too_short)


def _index_ngrams(
    keys: Hashes,
    checks: Hashes,
    sizes: Rows,
    ends: Hashes,
    items: Rows,
    labels: list[str],
    set_of_item: Rows,
    sets: tuple[str, ...],
    end_words: int,
    n_too_short: Rows,
) -> Leaks:
    """Return the leaks with their lookup tables filled."""
    slots, bits = _make_tables(len(keys))
    _fill(keys, checks, ends, slots, bits)
    return Leaks(
        keys,
        checks,
        sizes,
        ends,
        items,
        labels,
        set_of_item,
        sets,
        end_words,
        n_too_short,
        np.unique(sizes),
        slots,
        bits,
    )


def _make_tables(n: int) -> tuple[npt.NDArray[np.int32], Bytes]:
    """Return an empty hash table and Bloom filter for n keys: at most half of the slots and 1 in 16 bits will be used."""
    n_slots = 1 << max(n * 2, 8).bit_length()
    return np.full(n_slots, -1, np.int32), np.zeros(n_slots, np.uint8)


def to_table(leaks: Leaks) -> pa.Table:
    """Return the leaks as a table, to be written to the file that workers read.

    The first rows, of 0 words, name the sets; their key is `n_too_short`, their check is `end_words`.
    """
    parts = [leaks] if leaks.joined is None else [leaks, leaks.joined]
    return pa.concat_tables(
        _to_table(part).append_column("is_joined", pa.repeat(index > 0, len(part.keys) + len(part.sets)))
        for index, part in enumerate(parts)
    )


def _to_table(leaks: Leaks) -> pa.Table:
    """Return the n-grams of one kind as a table."""
    n_sets = len(leaks.sets)
    labels = pa.array([*leaks.sets, *leaks.labels], pa.string())
    return pa.table(
        {
            "key": np.append(leaks.n_too_short.astype(np.uint64), leaks.keys),
            "check": np.append(np.full(n_sets, leaks.end_words, np.uint64), leaks.checks),
            "end": np.append(np.zeros(n_sets, np.uint64), leaks.ends),
            "n_words": np.append(np.zeros(n_sets, np.int64), leaks.sizes),
            "set": np.append(np.arange(n_sets), leaks.set_of_item[leaks.items]),
            "item": labels.take(pa.array(np.append(np.arange(n_sets), leaks.items + n_sets))),
        }
    )


def from_table(table: pa.Table) -> Leaks:
    """Return the leaks from a table made by `to_table`."""
    is_joined = table.column("is_joined")
    leaks, joined = (_from_table(table.filter(each)) for each in (pc.invert(is_joined), is_joined))
    return leaks._replace(joined=joined)


def _from_table(table: pa.Table) -> Leaks:
    """Return the n-grams of one kind."""
    keys, checks, ends, sizes, sets = (
        table.column(name).to_numpy() for name in ("key", "check", "end", "n_words", "set")
    )
    n_sets = int(np.count_nonzero(sizes == 0))
    items = table.column("item").combine_chunks()
    encoded = items[n_sets:].dictionary_encode()
    indices = encoded.indices.to_numpy().astype(np.int64)
    set_of_item = np.zeros(len(encoded.dictionary), np.int64)
    set_of_item[indices] = sets[n_sets:]
    return _index_ngrams(
        keys[n_sets:],
        checks[n_sets:],
        sizes[n_sets:],
        ends[n_sets:],
        indices,
        encoded.dictionary.to_pylist(),
        set_of_item,
        tuple(items[:n_sets].to_pylist()),
        int(checks[0]),
        keys[:n_sets].astype(np.int64),
    )


def measure_overlap(words: pa.StringArray, leaks: Leaks) -> pa.RecordBatch:
    """Return `leak_ngrams`, `leak_word_frac`, `leak_item` ("" if none), and `leak_ngrams_<set>` for each set."""
    counts, fracs, first = _look_up_words(words, leaks)
    is_spaced = find_spaced_rows(words)
    if is_spaced.any() and leaks.joined is not None:
        joined = _look_up_words(join_spaced_letters(words.filter(pa.array(is_spaced))), leaks.joined)
        counts[is_spaced] += joined[0]
        fracs[is_spaced] = np.maximum(fracs[is_spaced], joined[1])
        first[is_spaced] = np.where(first[is_spaced] < 0, joined[2], first[is_spaced])
    labels = [leaks.labels[item] if item >= 0 else "" for item in first.tolist()]
    return pa.record_batch(
        {
            "leak_ngrams": pa.array(counts.sum(axis=1)),
            "leak_word_frac": pa.array(fracs),
            "leak_item": pa.array(labels, pa.string()),
            **{f"leak_ngrams_{name}": pa.array(counts[:, index].copy()) for index, name in enumerate(leaks.sets)},
        }
    )


def _look_up_words(words: pa.StringArray, leaks: Leaks) -> tuple[npt.NDArray[np.int64], Fractions, Rows]:
    """Return per row the shared n-grams by set, the fraction of words inside them, and the first item (-1: none)."""
    data, offsets = to_utf8(words)
    columns = leaks.keys, leaks.checks, leaks.sizes, leaks.items, leaks.set_of_item
    return _measure_overlap(
        data, offsets, leaks.lengths, *columns, leaks.slots, leaks.bits, leaks.end_words, len(leaks.sets)
    )


@numba.njit(nogil=True)
def _compute_powers(longest: int) -> Hashes:  # pragma: no cover (compiled)
    """Return the powers of the rolling hash's base, from 0 to `longest`."""
    powers = np.ones(longest + 1, np.uint64)
    for n in range(longest):
        powers[n + 1] = powers[n] * _BASE
    return powers


@numba.njit(nogil=True)
def _hash_word(data: Bytes, i: int, stop: int) -> tuple[np.uint64, int]:  # pragma: no cover (compiled)
    """Return FNV-1a of the word at `i`, enough to find candidates, and where the word ends."""
    hashed = _FNV_START
    while i < stop and data[i] != 32:
        hashed = (hashed ^ np.uint64(data[i])) * _FNV_PRIME
        i += 1
    return hashed, i


@numba.njit(cache=True, nogil=True)
def _hash_item_ngrams(
    data: Bytes, offsets: Offsets, n: int, min_words: int
) -> tuple[Hashes, Hashes, Rows, Hashes, Rows]:  # pragma: no cover (compiled)
    """Return keys, checks, sizes, hashes of the last words and the row of each n-gram that is not mostly numbers."""
    n_rows, total = len(offsets) - 1, 0
    for i in range(offsets[0], offsets[n_rows]):
        total += data[i] == 32
    keys, checks = np.empty(total + n_rows, np.uint64), np.empty(total + n_rows, np.uint64)
    ends = np.empty(total + n_rows, np.uint64)
    sizes, rows = np.empty(total + n_rows, np.int64), np.empty(total + n_rows, np.int64)
    starts, rolled = np.zeros(_RING, np.int64), np.zeros(_RING, np.uint64)
    numbers = np.zeros(_RING, np.int64)  # the count of numbers before each word
    powers = _compute_powers(n)
    used = 0
    for row in range(n_rows):
        n_words, i, stop = 0, offsets[row], offsets[row + 1]
        hashed, n_numbers = np.uint64(0), 0
        while i < stop:
            starts[n_words % _RING], rolled[n_words % _RING], numbers[n_words % _RING] = i, hashed, n_numbers
            first = i
            word, i = _hash_word(data, i, stop)
            hashed = hashed * _BASE + word
            n_numbers += 48 <= data[first] <= 57
            n_words += 1
            is_whole = i >= stop and min_words <= n_words < n
            if n_words >= n or is_whole:
                size = min(n, n_words)
                at = (n_words - size) % _RING
                if 2 * (n_numbers - numbers[at]) > size:
                    i += 1
                    continue
                keys[used] = hashed - rolled[at] * powers[size]
                checks[used] = xxh64(data, int(starts[at]), i)
                ends[used] = hashed - rolled[(n_words - min_words) % _RING] * powers[min_words]
                sizes[used], rows[used] = size, row
                used += 1
            i += 1
    return keys[:used], checks[:used], sizes[:used], ends[:used], rows[:used]


@numba.njit(nogil=True)
def _mix_bits(key: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    """Return the key with its entropy in the low bits, which index the tables."""
    key = (key ^ (key >> np.uint64(33))) * _MIX
    return key ^ (key >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def _fill(
    keys: Hashes, checks: Hashes, ends: Hashes, slots: npt.NDArray[np.int32], bits: Bytes
) -> npt.NDArray[np.bool_]:  # pragma: no cover (compiled)
    """Insert each distinct n-gram once. Return which n-grams are the first of their kind."""
    mask, bit_mask = np.uint64(len(slots) - 1), np.uint64(8 * len(bits) - 1)
    is_first = np.zeros(len(keys), np.bool_)
    for index in range(len(keys)):
        bit = _mix_bits(ends[index]) & bit_mask
        bits[bit >> np.uint64(3)] |= np.uint8(1 << (bit & np.uint64(7)))
        slot = _mix_bits(keys[index]) & mask
        while slots[slot] >= 0 and (keys[slots[slot]] != keys[index] or checks[slots[slot]] != checks[index]):
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot], is_first[index] = index, True
    return is_first


@numba.njit(nogil=True)
def _look_up(
    key: np.uint64, size: int, keys: Hashes, sizes: Rows, slots: npt.NDArray[np.int32]
) -> int:  # pragma: no cover (compiled)
    """Return the index of the n-gram, or -1."""
    mask = np.uint64(len(slots) - 1)
    slot = _mix_bits(key) & mask
    while slots[slot] >= 0 and (keys[slots[slot]] != key or sizes[slots[slot]] != size):
        slot = (slot + np.uint64(1)) & mask
    return slots[slot]


@numba.njit(cache=True, nogil=True)
def _measure_overlap(
    data: Bytes,
    offsets: Offsets,
    lengths: Rows,
    keys: Hashes,
    checks: Hashes,
    sizes: Rows,
    items: Rows,
    set_of_item: Rows,
    slots: npt.NDArray[np.int32],
    bits: Bytes,
    end_words: int,
    n_sets: int,
) -> tuple[npt.NDArray[np.int64], Fractions, Rows]:  # pragma: no cover (compiled)
    """Return per row the shared n-grams by set, the fraction of words inside them, and the first item (-1: none)."""
    n_rows = len(offsets) - 1
    counts, fracs, firsts = np.zeros((n_rows, n_sets), np.int64), np.zeros(n_rows), np.full(n_rows, -1, np.int64)
    starts, rolled = np.zeros(_RING, np.int64), np.zeros(_RING, np.uint64)
    powers, bit_mask = _compute_powers(_RING), np.uint64(8 * len(bits) - 1)
    for row in range(n_rows):
        n_words, n_leaked, hashed = 0, 0, np.uint64(0)
        leaked = np.uint64(0)  # which of the last 64 words are inside a leak; the lowest bit is the last word
        i, stop = offsets[row], offsets[row + 1]
        while i < stop:
            starts[n_words % _RING], rolled[n_words % _RING] = i, hashed
            word, i = _hash_word(data, i, stop)
            hashed = hashed * _BASE + word
            n_words += 1
            leaked <<= np.uint64(1)
            end = np.uint64(hashed - rolled[(n_words - end_words) % _RING] * powers[end_words])
            bit = _mix_bits(end) & bit_mask
            is_absent = n_words < end_words or not bits[bit >> np.uint64(3)] >> (bit & np.uint64(7)) & np.uint64(1)
            for k in range(0 if is_absent else len(lengths)):
                size = lengths[k]
                if n_words < size:
                    break
                at = (n_words - size) % _RING
                key = np.uint64(hashed - rolled[at] * powers[size])
                index = _look_up(key, size, keys, sizes, slots)
                if index >= 0 and checks[index] == xxh64(data, int(starts[at]), i):
                    item = items[index]
                    counts[row, set_of_item[item]] += 1
                    firsts[row] = item if firsts[row] < 0 else firsts[row]
                    added = ((np.uint64(1) << np.uint64(size)) - np.uint64(1)) & ~leaked
                    leaked |= added
                    while added:
                        added &= added - np.uint64(1)
                        n_leaked += 1
            i += 1
        fracs[row] = n_leaked / max(n_words, 1)
    return counts, fracs, firsts
