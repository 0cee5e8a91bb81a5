"""Check bytes and short forms inside the compiled scan: letters, digits, addresses, check sums.

In and out: arrays of bytes and numbers, inside compiled functions only. Numba's cache tracks the file of the kernel, scan.py: after
an edit here, delete `model/masking/__pycache__`.
"""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Offsets: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = npt.NDArray[np.int64]


@numba.njit(nogil=True)
def is_upper(byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the byte is A to Z."""
    return 65 <= byte <= 90


@numba.njit(nogil=True)
def is_letter(byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the byte is A to Z or a to z."""
    return 97 <= byte | 32 <= 122


@numba.njit(nogil=True)
def is_digit(byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the byte is 0 to 9."""
    return 48 <= byte <= 57


@numba.njit(nogil=True)
def is_dotted_quad(data: Bytes, stop: int, i: int, only_public: bool) -> bool:  # pragma: no cover (compiled)
    """Return whether there are four parts up to 255, outside networks that no host has; an exact check takes 20 µs in Python."""
    whole = 0
    for part in range(4):
        first, value = i, 0
        while i < stop and i - first < 4 and is_digit(data[i]):
            value = value * 10 + data[i] - 48
            i += 1
        if i == first or i - first > 3 or value > 255 or (part < 3 and (i >= stop or data[i] != 46)):
            return False
        whole = whole << 8 | value
        i += 1
    first_two = whole >> 16
    is_private = whole >> 24 in (10, 127) or first_two == 0xC0A8
    is_special = whole >> 24 in (0, 255) or whole >> 8 == 0xE00000
    return not (is_special or (only_public and is_private))


@numba.njit(nogil=True)
def is_hex(byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the byte is a hexadecimal digit."""
    return 48 <= byte <= 57 or 97 <= byte <= 102 or 65 <= byte <= 70


@numba.njit(nogil=True)
def is_ipv6(data: Bytes, start: int, stop: int, i: int) -> bool:  # pragma: no cover (compiled)
    """Return whether groups of one to four hexadecimal digits begin at i: eight, fewer with `::`, or an IPv4 address last."""
    before = data[i - 1] if i > start else 32
    if before == 58 or 48 <= before <= 57 or 97 <= before | 32 <= 122:  # std::vector
        return False
    is_shortened = data[i] == 58
    i += 2 * is_shortened
    n_groups = 0
    while n_groups < 9 and i < stop:
        first = i
        while i < stop and i - first < 5 and is_hex(data[i]):
            i += 1
        if i == first or i - first > 4:
            break
        n_groups += 1
        if i >= stop or data[i] != 58:
            break
        i += 1
        if i < stop and data[i] == 58:
            is_shortened = True
            i += 1
    is_mapped = n_groups == 7 and i < stop and data[i] == 46
    return n_groups >= 8 or is_mapped or (is_shortened and 1 <= n_groups <= 8)


@numba.njit(nogil=True)
def is_gap(byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the byte separates groups of digits: space ( ) - . / or a part of a no-break space or a Unicode hyphen."""
    return byte in (32, 40, 41, 45, 46, 47, 0xC2, 0xA0, 0xE2, 0x80, 0xAF) or 0x90 <= byte <= 0x93


@numba.njit(nogil=True)
def passes_luhn(data: Bytes, i: int, j: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the Luhn sum of the digits is valid."""
    total, is_second = 0, False
    for k in range(j - 1, i - 1, -1):
        if is_digit(data[k]):
            value = np.int64(data[k]) - 48
            if is_second:
                value = 2 * value if value < 5 else 2 * value - 9
            total += value
            is_second = not is_second
    return total % 10 == 0
