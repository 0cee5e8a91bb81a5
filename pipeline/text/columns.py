"""Convert Arrow strings to flat bytes and offsets, which the compiled kernels read and write, and back.

`to_utf8` does not copy the bytes (a slice of a column stays a slice); `from_utf8` copies the offsets once.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes: TypeAlias = npt.NDArray[np.uint8]
Offsets: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int64]
Fractions: TypeAlias = npt.NDArray[np.float64]


def to_one_array(column: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """Return a column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def to_utf8(texts: pa.StringArray) -> tuple[Bytes, Offsets]:
    """Return the UTF-8 bytes of all rows, and the offset of each row in them (one more offset than rows)."""
    assert texts.null_count == 0, "a text is never null"
    _, starts, data = texts.buffers()
    if len(texts) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(starts, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    values = np.zeros(0, np.uint8) if data is None or data.size == 0 else np.frombuffer(data, np.uint8)
    return values, offsets.astype(np.int64)


def from_utf8(data: Bytes, offsets: Offsets) -> pa.StringArray:
    """Return the column with these bytes and offsets."""
    starts = pa.py_buffer(offsets.astype(np.int32))
    return pa.StringArray.from_buffers(len(offsets) - 1, starts, pa.py_buffer(np.ascontiguousarray(data)))
