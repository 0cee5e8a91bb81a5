"""Numbers and strings on disk, for work on more documents than memory holds.

- `file_array`: a NumPy array whose pages are a file's. The system writes them out and drops them when memory is short, so they
  count as cache and not as the stage's memory.
- `Spool`: records in a number of files, by the part each record is given. Written in any order, read part by part: a sort of
  everything is a sort of each part, when the parts follow the key. Memory: `buffer_bytes`, then one part.
- `StringFile`: strings, appended; any of them found again by its place.

In and out: NumPy records and Arrow strings. Everything lies below one folder that the caller deletes. Time: one write and one
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

# A part is sorted in memory: its records, their order and their sorted copy, and Arrow's strings beside them.
COPIES = 4
MAX_PARTS = 512  # files; more would be written in crumbs


def file_array(path: Path, dtype: npt.DTypeLike, size: int) -> npt.NDArray[Any]:
    """`size` zeros that live in a file. A plain array, so that compiled kernels take it. The room is taken at once, so that
    a full disk is an error here and not the end of the process at the first page that finds no room."""
    if size == 0:
        return np.zeros(0, dtype)
    with path.open("wb") as file:
        n_bytes = size * np.dtype(dtype).itemsize
        os.posix_fallocate(file.fileno(), 0, n_bytes) if hasattr(os, "posix_fallocate") else file.truncate(n_bytes)
    return np.asarray(np.memmap(path, dtype, "r+"))


def append(file: BufferedWriter, numbers: npt.NDArray[Any]) -> None:
    """`ndarray.tofile` forgets why it failed; a full disk must say so."""
    file.write(np.ascontiguousarray(numbers).data)


def read_array(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The numbers of a file, its pages fetched when they are looked at."""
    if not path.exists() or path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r"))


def part_count(n_bytes: int, memory_bytes: int) -> int:
    """How many parts (a power of two) `n_bytes` of records need so that one can be sorted within `memory_bytes`."""
    needed = max(1, -(-COPIES * n_bytes // memory_bytes))
    return min(MAX_PARTS, 1 << (needed - 1).bit_length())


class Spool:
    """Records of one dtype in `n_parts` parts: first all are written, then each part is drained once. What fits in the buffer
    never touches the disk."""

    def __init__(self, folder: Path, dtype: npt.DTypeLike, n_parts: int, buffer_bytes: int) -> None:
        self.folder, self.dtype, self.n_parts, self.buffer_bytes = folder, np.dtype(dtype), n_parts, buffer_bytes
        self.n_records = 0
        self._records: list[Records] = []
        self._parts: list[Rows] = []
        self._pending = 0
        self._sorted: list[Records] | None = None  # a piece a part, once nothing more is written

    def write(self, records: Records, parts: Rows) -> None:
        """`records[i]` goes to part `parts[i]`, behind what was written there before."""
        assert self._sorted is None, "written after a part was drained"
        self._records.append(records)
        self._parts.append(parts)
        self.n_records += len(records)
        self._pending += len(records) * (self.dtype.itemsize + parts.itemsize)
        if COPIES * self._pending >= self.buffer_bytes:
            self._flush()

    def drain(self, part: int) -> Records:
        """All records of one part, in the order they were written; then they are gone."""
        if self._sorted is None:
            self._sorted = self._sort()
        held, self._sorted[part] = self._sorted[part], np.zeros(0, self.dtype)
        path = self._path(part)
        if not path.exists():
            return held
        records = np.concatenate([np.fromfile(path, self.dtype), held])
        path.unlink()
        return records

    def _sort(self) -> list[Records]:
        """What is pending, a piece a part."""
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
        for part, records in enumerate(self._sort()):
            if len(records):
                with self._path(part).open("ab") as file:
                    append(file, records)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:05d}.bin"


class StringFile:
    """Strings on disk. `append` all, then `take` any."""

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
            append(ends, np.asarray(offsets[1:]) - start + self._n_bytes)
        self._n_bytes += stop - start

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def take(self, places: Rows) -> pa.StringArray:
        """The strings at these places, in this order."""
        if len(places) == 0:
            return pa.array([], pa.string())
        ends, data = read_array(self._ends, np.int64), read_array(self._data, np.uint8)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
        column = pa.LargeStringArray.from_buffers(len(ends) - 1, buffers[1], buffers[2])
        return column.take(pa.array(places)).cast(pa.string())
