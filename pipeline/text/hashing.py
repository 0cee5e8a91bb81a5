"""xxHash64 in compiled form, for kernels that hash slices of a buffer without making an object of each.

`xxh64(data, start, stop)` equals `xxhash.xxh64_intdigest(data[start:stop])` (seed 0): a published function, so that whoever
checks our figures can compute the same hash by other means. Source: the xxHash specification, version 0.2.0, part XXH64.

Numba's cache looks at the file that a kernel is in, not at the files of the functions it calls: after an edit here, delete
`pipeline/text/__pycache__`.
"""

from __future__ import annotations

import numba
import numpy as np

from pipeline.text.columns import Bytes

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_LANE_1 = np.uint64((0x9E3779B185EBCA87 + 0xC2B2AE3D27D4EB4F) % 2**64)
_LANE_4 = np.uint64(2**64 - 0x9E3779B185EBCA87)


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
def xxh64(data: Bytes, start: int, stop: int) -> np.uint64:  # pragma: no cover (compiled)
    """XXH64 with seed 0 of the bytes from `start` up to `stop`."""
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
        whole = _rotate(whole ^ _round(np.uint64(0), _word64(data, i)), 27) * _P1 + _P4
        i += np.uint64(8)
    if i + np.uint64(4) <= end:
        whole = _rotate(whole ^ (_word32(data, i) * _P1), 23) * _P2 + _P3
        i += np.uint64(4)
    while i < end:
        whole = _rotate(whole ^ (np.uint64(data[i]) * _P5), 11) * _P1
        i += np.uint64(1)
    whole = (whole ^ (whole >> np.uint64(33))) * _P2
    whole = (whole ^ (whole >> np.uint64(29))) * _P3
    return whole ^ (whole >> np.uint64(32))
