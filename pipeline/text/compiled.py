"""Provide primitives that Numba lacks for compiled functions: no reference counting, loads of eight bytes, trailing zeros.

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
    """Compile a function that creates no arrays so that it is inlined into its callers.

    Numba counts references of every array at each call, even where it inlines: one call each, which spills the registers.
    `_nrt=False` disables the counting; splitting off a comma then takes 10 ns instead of 120.
    """
    return cast("Any", numba.njit)(nogil=True, forceinline=True, _nrt=False)(function)


decode: Callable[[Bytes, int], tuple[int, int]] = leaf(letters.decode.py_func)  # type: ignore[attr-defined]


@intrinsic
def _load64(_context: Any, data: Any, i: Any) -> Any:
    """Load the eight bytes from index i on as a little-endian number; they must all be in the array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(view.data, [args[1]]), ir.IntType(64).as_pointer())
        value = builder.load(pointer)
        value.align = 1
        return value

    return types.uint64(data, i), generate


load64: Callable[[Bytes, int], np.uint64] = cast("Any", _load64)


@intrinsic
def _trailing_zeros(_context: Any, number: Any) -> Any:
    """Count the zero bits below the lowest set bit; 64 for 0."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


trailing_zeros: Callable[[np.uint64], int] = cast("Any", _trailing_zeros)


@leaf
def equal_bytes(word: np.uint64, wanted: np.uint64) -> np.uint64:  # pragma: no cover (compiled)
    """Return the high bits of the bytes that are equal in both numbers. The lowest one is exact; higher ones may be false
    positives."""
    other = word ^ wanted
    return (other - ONES) & ~other & _HIGH


@leaf
def count_letters(data: Bytes, i: int, stop: int) -> int:  # pragma: no cover (compiled)
    """Count the ASCII letters from index i on, eight bytes per step. Source: Mycroft's test of bytes in a word."""
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
    """Count the bytes from i up to `stop` that are neither ASCII white space nor control characters, eight bytes per step."""
    n = 0
    while i + 8 <= stop:
        word = load64(data, i)
        visible = (((word & _LOW) + _PAST_SPACE) | word) & _HIGH
        ones = visible >> np.uint64(7)
        n += np.int64((ones * ONES) >> np.uint64(56))  # the highest byte of the product is the sum of all bytes
        i += 8
    while i < stop:
        n += data[i] > 32
        i += 1
    return int(n)


@leaf
def find_byte(data: Bytes, i: int, stop: int, byte: int) -> int:  # pragma: no cover (compiled)
    """Return the index of the first such byte from i on, or `stop`; eight bytes per step."""
    wanted = ONES * np.uint64(byte)
    while i + 8 <= len(data) and i < stop:
        matches = equal_bytes(load64(data, i), wanted)
        if matches:
            return min(i + (trailing_zeros(matches) >> 3), stop)
        i += 8
    while i < stop and data[i] != byte:
        i += 1
    return min(i, stop)


@leaf
def find_newline(data: Bytes, i: int, stop: int) -> int:  # pragma: no cover (compiled)
    """Return the index of the first newline from i on, or `stop`."""
    return find_byte(data, i, stop, 10)
