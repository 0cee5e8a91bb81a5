"""Implement xxHash64 for compiled kernels, which hash slices of a buffer without creating an object for each.

`xxh64(data, start, stop)` equals `xxhash.xxh64_intdigest(data[start:stop])` (seed 0): a published function, so that anyone can
verify our results with another implementation. Source: the xxHash specification, version 0.2.0, part XXH64.

`xxh64_many` hashes many short slices: it first transposes their words into columns of a block, then processes the block in one
branch-free loop, eight slices at once where the CPU supports it. Hashing one slice after the other takes 16 ns for 32 bytes, mostly
for mispredicted branches on the length; the columns take 4 ns (AMD EPYC, AVX-512).

Numba's cache tracks the file that contains a kernel, not the files of the functions that it calls: after an edit here, delete
`pipeline/text/__pycache__`.
"""

from __future__ import annotations

import numba
import numpy as np

from pipeline.text.columns import Bytes, Hashes, Offsets

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_LANE_1 = np.uint64((0x9E3779B185EBCA87 + 0xC2B2AE3D27D4EB4F) % 2**64)
_LANE_4 = np.uint64(2**64 - 0x9E3779B185EBCA87)
BLOCK = 256  # slices hashed together: their ten columns are 20 KB, which fit in the L1 cache
SHORT = 64  # slices of fewer bytes are hashed in columns


@numba.njit
def _rotate(x: np.uint64, bits: int) -> np.uint64:  # pragma: no cover (compiled)
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit
def _word32(data: Bytes, i: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return (
        np.uint64(data[i])
        | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
    )


@numba.njit
def _word64(data: Bytes, i: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return _word32(data, i) | _word32(data, i + np.uint64(4)) << np.uint64(32)


@numba.njit
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return _rotate(lane + word * _P2, 31) * _P1


@numba.njit
def _merge(whole: np.uint64, lane: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return (whole ^ _round(np.uint64(0), lane)) * _P1 + _P4


@numba.njit
def _with_word(whole: np.uint64, word: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return _rotate(whole ^ _round(np.uint64(0), word), 27) * _P1 + _P4


@numba.njit
def _with_half(whole: np.uint64, half: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return _rotate(whole ^ (half * _P1), 23) * _P2 + _P3


@numba.njit
def _with_byte(whole: np.uint64, byte: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    return _rotate(whole ^ (byte * _P5), 11) * _P1


@numba.njit
def _finish(whole: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    whole = (whole ^ (whole >> np.uint64(33))) * _P2
    whole = (whole ^ (whole >> np.uint64(29))) * _P3
    return whole ^ (whole >> np.uint64(32))


@numba.njit
def xxh64(data: Bytes, start: int, stop: int) -> np.uint64:  # pragma: no cover (compiled)
    """Return XXH64 with seed 0 of the bytes from `start` up to `stop`."""
    i = np.uint64(start)
    end = np.uint64(stop)
    size = end - i
    if size >= np.uint64(32):
        a, b, c, d = _LANE_1, _P2, np.uint64(0), _LANE_4
        while i + np.uint64(32) <= end:
            a = _round(a, _word64(data, i))
            b = _round(b, _word64(data, i + np.uint64(8)))
            c = _round(c, _word64(data, i + np.uint64(16)))
            d = _round(d, _word64(data, i + np.uint64(24)))
            i += np.uint64(32)
        whole = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        whole = _merge(_merge(_merge(_merge(whole, a), b), c), d)
    else:
        whole = _P5
    whole += size
    while i + np.uint64(8) <= end:
        whole = _with_word(whole, _word64(data, i))
        i += np.uint64(8)
    if i + np.uint64(4) <= end:
        whole = _with_half(whole, _word32(data, i))
        i += np.uint64(4)
    while i < end:
        whole = _with_byte(whole, np.uint64(data[i]))
        i += np.uint64(1)
    return _finish(whole)


@numba.njit(nogil=True)
def xxh64_many(
    data: Bytes, starts: Offsets, stops: Offsets, block: Hashes, out: Hashes
) -> None:  # pragma: no cover (compiled)
    """Set `out[j]` to XXH64 of the bytes from `starts[j]` up to `stops[j]`. `block` comes from `make_block()` and can be reused."""
    for first in range(0, len(out), BLOCK):
        n = min(BLOCK, len(out) - first)
        n_other = 0
        for j in range(n):
            start = starts[first + j]
            size = stops[first + j] - start
            if size >= SHORT or start + SHORT > len(data):
                n_other += 1  # too long for a column, or too close to the end of the buffer to load whole words
                continue
            i, s = np.uint64(start), np.uint64(size)
            block[j] = _word64(data, i)
            block[BLOCK + j] = _word64(data, i + np.uint64(8))
            block[2 * BLOCK + j] = _word64(data, i + np.uint64(16))
            block[3 * BLOCK + j] = _word64(data, i + np.uint64(24))
            i += s & np.uint64(32)
            block[4 * BLOCK + j] = _word64(data, i)
            block[5 * BLOCK + j] = _word64(data, i + np.uint64(8))
            block[6 * BLOCK + j] = _word64(data, i + np.uint64(16))
            block[7 * BLOCK + j] = _word64(data, i + (s & np.uint64(24)))
            block[8 * BLOCK + j] = s
        _hash_columns(block, n)
        for j in range(n):
            out[first + j] = block[9 * BLOCK + j]
        if n_other:
            for j in range(first, first + n):
                if stops[j] - starts[j] >= SHORT or starts[j] + SHORT > len(data):
                    out[j] = xxh64(data, starts[j], stops[j])


@numba.njit(nogil=True)
def make_block() -> Hashes:  # pragma: no cover (compiled)
    """Return a buffer for `xxh64_many`."""
    return np.zeros(10 * BLOCK, np.uint64)


@numba.njit(nogil=True)
def _hash_columns(block: Hashes, n: int) -> None:  # pragma: no cover (compiled)
    """Hash the columns of a block: four words of the head, three of the tail, the last bytes, the size; then the result. All cases
    are computed and the one for the size is selected, without branches. The block is one flat array, so that the compiler can rule
    out aliasing."""
    for j in range(n):
        a = _round(_LANE_1, block[j])
        b = _round(_P2, block[BLOCK + j])
        c = _round(np.uint64(0), block[2 * BLOCK + j])
        d = _round(_LANE_4, block[3 * BLOCK + j])
        size = block[8 * BLOCK + j]
        whole = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        whole = _merge(_merge(_merge(_merge(whole, a), b), c), d)
        whole = (whole if size >= np.uint64(32) else _P5) + size
        n_words = (size >> np.uint64(3)) & np.uint64(3)
        whole = _with_word(whole, block[4 * BLOCK + j]) if n_words > np.uint64(0) else whole
        whole = _with_word(whole, block[5 * BLOCK + j]) if n_words > np.uint64(1) else whole
        whole = _with_word(whole, block[6 * BLOCK + j]) if n_words > np.uint64(2) else whole
        last, n_bytes = block[7 * BLOCK + j], size & np.uint64(7)
        has_four = n_bytes >= np.uint64(4)
        whole = _with_half(whole, last & np.uint64(0xFFFFFFFF)) if has_four else whole
        last = last >> np.uint64(32) if has_four else last
        n_bytes &= np.uint64(3)
        whole = _with_byte(whole, last & np.uint64(255)) if n_bytes > np.uint64(0) else whole
        whole = _with_byte(whole, (last >> np.uint64(8)) & np.uint64(255)) if n_bytes > np.uint64(1) else whole
        whole = _with_byte(whole, (last >> np.uint64(16)) & np.uint64(255)) if n_bytes > np.uint64(2) else whole
        block[9 * BLOCK + j] = _finish(whole)
