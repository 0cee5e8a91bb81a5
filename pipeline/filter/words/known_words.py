"""Special words (pipeline/filter/words/contractions.py) and units of measure, as hash tables for compiled functions.

In: nothing, or bytes of a text. Out: two tables of 4,096 slots (48 KiB, built on first use), the hash of a word, and the lengths of
the pieces of a known word.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.filter.words.contractions import list_special_words
from pipeline.text.columns import Bytes, Hashes, Offsets, to_utf8
from pipeline.text.compiled import leaf, load64

MAX_SPECIAL = 16  # bytes
MAX_PIECES = 4  # a table entry has four bytes, one for the length of each piece
TABLE_BITS = 12
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa mbar "
    "mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар "
    "Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тб US$ C$ A$"
)


Lengths: TypeAlias = npt.NDArray[np.uint32]


class KnownWords(NamedTuple):
    """A hash table of special words and units: `keys` (0: free) and the lengths of the pieces, one byte each (1 for a unit)."""

    keys: Hashes
    pieces: Lengths


@cache
def load_known_words() -> KnownWords:
    """Return special words and units of measure in one table, built once per process; a unit's key is its complemented hash."""
    special, units = list_special_words(), _UNITS.split()
    hashes = hash_words([*special, *units])
    entries = [sum(len(piece.encode()) << 8 * i for i, piece in enumerate(pieces)) for pieces in special.values()]
    size = 1 << TABLE_BITS
    keys, pieces = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
    n = len(special)
    for key, entry in zip([*hashes[:n], *~hashes[n:]], [*entries, *[1] * len(units)], strict=True):
        at = int(key) >> (64 - TABLE_BITS)
        while keys[at] and keys[at] != key:
            at = (at + 1) % size
        keys[at], pieces[at] = key, entry
    return KnownWords(keys, pieces)


def hash_words(words: Sequence[str]) -> Hashes:
    """Return the hashes that these words have in every text."""
    return _hash_rows(*to_utf8(pa.array(words, pa.string())))


@numba.njit(cache=True, nogil=True)
def _hash_rows(data: Bytes, offsets: Offsets) -> Hashes:  # pragma: no cover (compiled)
    """Return the hash of each row."""
    hashes = np.zeros(len(offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        hashes[row] = hash_word(data, offsets[row], offsets[row + 1])
    return hashes


@leaf
def _load_word64(data: Bytes, start: int, stop: int) -> np.uint64:  # pragma: no cover (compiled)
    """Return up to eight bytes as a little-endian number."""
    n = stop - start
    if start + 8 <= len(data):
        word = load64(data, start)
        return word & (~np.uint64(0) >> np.uint64(64 - 8 * n)) if n < 8 else word
    word = np.uint64(0)
    for k in range(min(n, 8)):
        word |= np.uint64(data[start + k]) << np.uint64(8 * k)
    return word


@leaf
def hash_word(data: Bytes, start: int, stop: int) -> np.uint64:  # pragma: no cover (compiled)
    """Return a 64-bit hash, never 0: multiply and fold, eight bytes per step. Our own, so it must never be stored."""
    h = np.uint64(stop - start) * np.uint64(0x9E3779B97F4A7C15)
    i = start
    while i < stop:
        h = (h ^ _load_word64(data, i, stop)) * np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(32)
        i += 8
    h *= np.uint64(0xD6E8FEB86659FD93)
    return (h ^ (h >> np.uint64(29))) | np.uint64(1)


@leaf
def find_known(keys: Hashes, pieces: Lengths, key: np.uint64) -> np.uint32:  # pragma: no cover (compiled)
    """Return the table entry of the key, or 0."""
    at = key >> np.uint64(64 - TABLE_BITS)
    while keys[at] != key:
        if keys[at] == np.uint64(0):
            return np.uint32(0)
        at = (at + np.uint64(1)) & np.uint64((1 << TABLE_BITS) - 1)
    return pieces[at]


@leaf
def find_special(
    data: Bytes, i: int, j: int, keys: Hashes, pieces: Lengths
) -> np.uint32:  # pragma: no cover (compiled)
    """Return the lengths of the pieces, or 0 for a word that is not special."""
    return find_known(keys, pieces, hash_word(data, i, j)) if 0 < j - i <= MAX_SPECIAL else np.uint32(0)
