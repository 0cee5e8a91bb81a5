"""The compiled hash is the published one."""

from __future__ import annotations

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.hashing import xxh64


@given(st.binary(max_size=200), st.integers(0, 40), st.integers(0, 200))
def test_equals_xxh64_of_the_slice(data: bytes, start: int, size: int) -> None:
    start = min(start, len(data))
    stop = min(start + size, len(data))
    buffer = np.frombuffer(data + b"\0", np.uint8)
    assert int(xxh64(buffer, start, stop)) == xxhash.xxh64_intdigest(data[start:stop])
