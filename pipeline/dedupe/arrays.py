"""Keep numbers and strings on disk, for more documents than fit in memory.

- `make_file_array`: a NumPy array backed by a file. The kernel writes its pages out and drops them when memory is short, so they
  count as page cache and not as the memory of the stage.
- `Spool`: records in several files, one for each part. They are written in any order and read part by part: if the parts follow
  the key, sorting each part sorts everything. Memory: `buffer_bytes`, then one part.
- `StringFile`: appended strings with random access by position.

In and out: NumPy records and Arrow strings. All files are below one folder that the caller deletes. Time: one write and one
read of each byte; a part is written in pieces of `buffer_bytes` / parts.
"""

from __future__ import annotations

import os
from io import BufferedWriter
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.columns import Rows

Records: TypeAlias = npt.NDArray[Any]

# Sorting a part takes its records, their order, the sorted copy, and Arrow's strings.
COPIES = 4
MAX_PARTS = 512  # files; with more of them, each write would be tiny


def make_file_array(path: Path, dtype: npt.DTypeLike, size: int) -> npt.NDArray[Any]:
    """Return `size` zeros backed by a file, as a plain array that compiled kernels accept. The space is allocated at once, so that
    a full disk raises here instead of killing the process (SIGBUS) when a page is first written."""
    if size == 0:
        return np.zeros(0, dtype)
    with path.open("wb") as file:
        n_bytes = size * np.dtype(dtype).itemsize
        os.posix_fallocate(file.fileno(), 0, n_bytes) if hasattr(os, "posix_fallocate") else file.truncate(n_bytes)
    return np.asarray(np.memmap(path, dtype, "r+"))


def append_numbers(file: BufferedWriter, numbers: npt.NDArray[Any]) -> None:
    """Append numbers to a file. Unlike `ndarray.tofile`, this raises an OSError that names the cause, such as a full disk."""
    file.write(np.ascontiguousarray(numbers).data)


def read_array(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Map the numbers of a file; its pages are read on access."""
    if not path.exists() or path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))


def count_parts(n_bytes: int, memory_bytes: int) -> int:
    """Return how many parts (a power of two) `n_bytes` of records need so that one part can be sorted within `memory_bytes`."""
    needed = max(1, -(-COPIES * n_bytes // memory_bytes))
    return min(MAX_PARTS, 1 << (needed - 1).bit_length())


class Spool:
    """Spool records of one dtype in `n_parts` parts: first all are written, then each part is drained once. Records that fit in the
    buffer never touch the disk."""

    def __init__(self, folder: Path, dtype: npt.DTypeLike, n_parts: int, buffer_bytes: int) -> None:
        self.folder, self.dtype, self.n_parts, self.buffer_bytes = folder, np.dtype(dtype), n_parts, buffer_bytes
        self.n_records = 0
        self._records: list[Records] = []
        self._parts: list[Rows] = []
        self._pending = 0
        self._sorted: list[Records] | None = None  # one piece per part, once draining has begun

    def write(self, records: Records, parts: Rows) -> None:
        """Append `records[i]` to part `parts[i]`."""
        assert self._sorted is None, "written after a part was drained"
        self._records.append(records)
        self._parts.append(parts)
        self.n_records += len(records)
        self._pending += len(records) * (self.dtype.itemsize + parts.itemsize)
        if COPIES * self._pending >= self.buffer_bytes:
            self._flush()

    def drain(self, part: int) -> Records:
        """Return all records of one part, in the order in which they were written, and forget them."""
        if self._sorted is None:
            self._sorted = self._take_pending()
        held, self._sorted[part] = self._sorted[part], np.zeros(0, self.dtype)
        path = self._path(part)
        if not path.exists():
            return held
        records = np.concatenate([np.fromfile(path, self.dtype), held])
        path.unlink()
        return records

    def _take_pending(self) -> list[Records]:
        """Return the pending records, one piece per part."""
        if not self._records:
            return [np.zeros(0, self.dtype)] * self.n_parts
        records, parts = np.concatenate(self._records), np.concatenate(self._parts)
        self._records, self._parts, self._pending = [], [], 0
        order = np.argsort(parts, kind="stable") if self.n_parts > 1 else slice(None)
        bounds = np.searchsorted(parts[order], np.arange(self.n_parts + 1))
        records = records[order]
        return [records[start:stop] for start, stop in pairwise(bounds.tolist())]

    def _flush(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for part, records in enumerate(self._take_pending()):
            if len(records):
                with self._path(part).open("ab") as file:
                    append_numbers(file, records)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:05d}.bin"


class StringFile:
    """Keep strings on disk: first `append` all of them, then `take` any."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._data, self._ends = folder / "data.bin", folder / "ends.bin"
        self._n_bytes = 0
        np.zeros(1, np.int64).tofile(self._ends)

    def append(self, strings: pa.Array | pa.ChunkedArray) -> None:
        column = strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings
        whole = pa.array(column, pa.large_string()) if len(column) == 0 else column.cast(pa.large_string())
        offsets = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset :][: len(whole) + 1] if len(whole) else []
        if len(whole) == 0:
            return
        start, stop = int(offsets[0]), int(offsets[-1])
        with self._data.open("ab") as data, self._ends.open("ab") as ends:
            data.write(memoryview(whole.buffers()[2])[start:stop])
            append_numbers(ends, np.asarray(offsets[1:]) - start + self._n_bytes)
        self._n_bytes += stop - start

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def take(self, positions: Rows) -> pa.StringArray:
        """Return the strings at these positions, in this order."""
        if len(positions) == 0:
            return pa.array([], pa.string())
        ends, data = read_array(self._ends, np.int64), read_array(self._data, np.uint8)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
        column = pa.LargeStringArray.from_buffers(len(ends) - 1, buffers[1], buffers[2])
        return column.take(pa.array(positions)).cast(pa.string())
