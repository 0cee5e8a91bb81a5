"""More rows than fit in memory, sorted by a 64-bit key: spread over files by key range, then each file sorted on its own.

In: tables with a column `key` (uint64, about evenly spread, as hashes are), in any order. Out: the same rows as tables that follow
each other in the order of key, then of the columns in `ties`. Disk: the rows once. Memory: `BUFFER_BYTES` while writing, one
part while reading, about `part_bytes` (a part that many equal keys fill is as large as they are).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.arrow_files import append_stream, read_stream

BUFFER_BYTES = 32_000_000
PART_BYTES = 32_000_000
MAX_PARTS = 16_384


class Spool:
    """Write all rows, then read them in order. `n_bytes`: about how many bytes of rows will come."""

    def __init__(self, folder: Path, n_bytes: int, ties: Sequence[str], part_bytes: int = 0) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # what a stopped run has left is written again
        folder.mkdir(parents=True)
        self.folder, self.ties = folder, ties
        self.n_parts = min(max(-(-n_bytes // (part_bytes or PART_BYTES)), 1), MAX_PARTS)
        self._pending: list[pa.Table] = []
        self._bytes = 0

    def write(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._bytes += table.nbytes
        if self._bytes > BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        table = pa.concat_tables(self._pending)
        part = part_of(table.column("key").to_numpy(), self.n_parts)
        order = np.argsort(part, kind="stable")
        cuts = np.searchsorted(part[order], np.arange(self.n_parts + 1))
        for number in np.flatnonzero(np.diff(cuts)):
            rows = table.take(pa.array(order[cuts[number] : cuts[number + 1]]))
            append_stream(self.folder / f"{number:05d}.arrow", rows.combine_chunks())
        self._pending, self._bytes = [], 0

    def read(self) -> Iterator[pa.Table]:
        """One table a part, in order; its file goes when the next one is asked for."""
        if self._pending:
            self._flush()
        for path in sorted(self.folder.glob("*.arrow")):
            table = pa.Table.from_batches(list(read_stream(path)))
            yield table.sort_by([("key", "ascending"), *((name, "ascending") for name in self.ties)])
            path.unlink()


def part_of(keys: np.ndarray, n_parts: int) -> np.ndarray:
    """The number of the key range that each key falls into: the ranges are equal and in order."""
    return ((keys >> np.uint64(32)) * np.uint64(n_parts) >> np.uint64(32)).astype(np.int64)
