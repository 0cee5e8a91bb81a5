"""The compiled hash equals the published one."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.hashing import BLOCK, make_block, xxh64, xxh64_many


@given(st.binary(max_size=200), st.integers(0, 40), st.integers(0, 200))
def test_equals_xxh64_of_the_slice(data: bytes, start: int, size: int) -> None:
    start = min(start, len(data))
    stop = min(start + size, len(data))
    buffer = np.frombuffer(data + b"\0", np.uint8)
    assert int(xxh64(buffer, start, stop)) == xxhash.xxh64_intdigest(data[start:stop])


@numba.njit
def hash_many(data: Any, starts: Any, stops: Any) -> Any:
    """Hash slices as kernels do; the block is used twice, which must not change the result."""
    out, block = np.empty(len(starts), np.uint64), make_block()
    xxh64_many(data, starts, stops, block, out)
    xxh64_many(data, starts, stops, block, out)
    return out


@given(st.binary(min_size=1, max_size=300), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), max_size=20))
def test_many_slices_at_once_equal_one_after_the_other(data: bytes, slices: list[tuple[int, int]]) -> None:
    bounds = [(min(start, len(data)), min(start + size, len(data))) for start, size in slices]
    starts, stops = (np.array([bound[i] for bound in bounds], np.int64) for i in (0, 1))
    got = hash_many(np.frombuffer(data, np.uint8), starts, stops)
    assert got.tolist() == [xxhash.xxh64_intdigest(data[start:stop]) for start, stop in bounds]


def test_more_slices_than_fit_in_a_block() -> None:
    data = np.random.default_rng(1).integers(0, 256, 3 * BLOCK + 200, np.uint8)
    starts = np.arange(3 * BLOCK + 1, dtype=np.int64)
    stops = starts + starts % 97  # every size below 97 bytes, in and out of the columns
    expected = [xxhash.xxh64_intdigest(data[a:b].tobytes()) for a, b in zip(starts, stops, strict=True)]
    assert hash_many(data, starts, stops).tolist() == expected
