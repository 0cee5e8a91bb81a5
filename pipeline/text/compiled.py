"""What compiled functions want of the machine and Numba has no word for: no counting of references, eight bytes at once,
trailing zeros.

In and out: arrays of bytes and numbers, inside compiled functions only.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pipeline.text import letters
from pipeline.text.columns import Bytes

Function = TypeVar("Function", bound=Callable[..., Any])

ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)
CASE = np.uint64(0x2020202020202020)
_FROM_A = np.uint64((0x80 - ord("a")) * 0x0101010101010101)
_PAST_Z = np.uint64((0x7F - ord("z")) * 0x0101010101010101)
_PAST_SPACE = np.uint64((0x7F - ord(" ")) * 0x0101010101010101)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)


def leaf(function: Function) -> Function:
    """Compiles a function that makes no arrays, into whoever calls it.

    Numba counts the references of every array at each call, also where it inlines: a call each that keeps all else out of the
    registers. `_nrt=False` leaves the counting out; splitting off a comma takes 10 ns then, not 120.
    """
    return cast("Any", numba.njit)(nogil=True, forceinline=True, _nrt=False)(function)


decode: Callable[[Bytes, int], tuple[int, int]] = leaf(letters.decode.py_func)  # type: ignore[attr-defined]


@intrinsic
def _load64(_context: Any, data: Any, i: Any) -> Any:
    """The eight bytes from i on as a little-endian number; they must all be in the array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.bitcast(builder.gep(view.data, [args[1]]), ir.IntType(64).as_pointer())
        value = builder.load(place)
        value.align = 1
        return value

    return types.uint64(data, i), generate


load64: Callable[[Bytes, int], np.uint64] = cast("Any", _load64)


@intrinsic
def _trailing_zeros(_context: Any, number: Any) -> Any:
    """Zero bits below the lowest one; 64 for 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


trailing_zeros: Callable[[np.uint64], int] = cast("Any", _trailing_zeros)


@leaf
def equal_bytes(word: np.uint64, wanted: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    """The high bits of the bytes that are equal in both numbers. The lowest of them is right; one above it may be wrong."""
    other = word ^ wanted
    return (other - ONES) & ~other & _HIGH


@leaf
def count_letters(data: Bytes, i: int, stop: int) -> int:  # pragma: no cover (compiled)
    """ASCII letters from byte i on, eight bytes a step. Source: Mycroft's test of bytes in a word."""
    start = i
    while i + 8 <= len(data) and i < stop:
        word = load64(data, i)
        folded = (word | CASE) & _LOW
        letters = (folded + _FROM_A) & ~(folded + _PAST_Z) & ~word & _HIGH
        if letters != _HIGH:
            return min(i + (trailing_zeros(letters ^ _HIGH) >> 3), stop) - start
        i += 8
    while i < stop and 97 <= (data[i] | 32) <= 122:
        i += 1
    return min(i, stop) - start


@leaf
def count_visible(data: Bytes, i: int, stop: int) -> int:  # pragma: no cover (compiled)
    """Bytes from i to `stop` that are neither white space nor control characters of ASCII, eight a step."""
    n = 0
    while i + 8 <= stop:
        word = load64(data, i)
        visible = (((word & _LOW) + _PAST_SPACE) | word) & _HIGH
        ones = visible >> np.uint64(7)
        n += np.int64((ones * ONES) >> np.uint64(56))  # the highest byte of the product is the sum of all
        i += 8
    while i < stop:
        n += data[i] > 32
        i += 1
    return int(n)


@leaf
def find_byte(data: Bytes, i: int, stop: int, byte: int) -> int:  # pragma: no cover (compiled)
    """The first such byte from byte i on, or `stop`; eight bytes a step."""
    wanted = ONES * np.uint64(byte)
    while i + 8 <= len(data) and i < stop:
        found = equal_bytes(load64(data, i), wanted)
        if found:
            return min(i + (trailing_zeros(found) >> 3), stop)
        i += 8
    while i < stop and data[i] != byte:
        i += 1
    return min(i, stop)


@leaf
def find_newline(data: Bytes, i: int, stop: int) -> int:  # pragma: no cover (compiled)
    """The first newline from byte i on, or `stop`."""
    return find_byte(data, i, stop, 10)
