"""Scanning eight bytes at a time finds what scanning single bytes finds."""

from __future__ import annotations

import re

import numba
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.columns import Bytes
from pipeline.text.compiled import count_letters, count_visible, find_byte, find_newline

BYTES = st.binary(max_size=40) | st.lists(
    st.sampled_from([b"a", b"Z", b"word", b"\n", b"[", b"@", b"`", b"{", b"\xc3\xa9"])
).map(b"".join)


@numba.njit
def call_count_letters(data: Bytes, i: int, stop: int) -> int:
    return count_letters(data, i, stop)


@numba.njit
def call_find_newline(data: Bytes, i: int, stop: int) -> int:
    return find_newline(data, i, stop)


@numba.njit
def call_find_byte(data: Bytes, i: int, stop: int, byte: int) -> int:
    return find_byte(data, i, stop, byte)


@numba.njit
def call_count_visible(data: Bytes, i: int, stop: int) -> int:
    return count_visible(data, i, stop)


@given(BYTES, st.integers(0, 40), st.integers(0, 40))
def test_letters_and_newlines(data: bytes, first: int, last: int) -> None:
    stop = min(last, len(data))
    start = min(first, stop)
    array, part = np.frombuffer(data, np.uint8), data[start:stop]
    found = re.match(rb"[A-Za-z]*", part)
    assert found is not None
    assert call_count_letters(array, start, stop) == len(found.group())
    index = part.find(b"\n")
    assert call_find_newline(array, start, stop) == (stop if index < 0 else start + index)


@given(BYTES, st.integers(0, 40), st.integers(0, 40), st.integers(0, 255))
def test_any_byte_and_visible_bytes(data: bytes, first: int, last: int, byte: int) -> None:
    stop = min(last, len(data))
    start = min(first, stop)
    array, part = np.frombuffer(data, np.uint8), data[start:stop]
    index = part.find(byte)
    assert call_find_byte(array, start, stop, byte) == (stop if index < 0 else start + index)
    assert call_count_visible(array, start, stop) == sum(each > 32 for each in part)
