"""Rows on their way to a sorted file: sorted runs on disk first, then all of them in order.

In: tables in any order. Out: `DOCS` in order of id, `REJECTS` in order of all columns. Documents are sorted by ranges of
their ids, which are uniform hashes: as many ranges as make about `RUN_BYTES` of text each, every run lending its slice of
one range; a range that is too large is halved. Rejects are merged, `FAN_IN` runs at a time.
Memory: eight times `RUN_BYTES`, half of it pages of files, and 5 kB a run, whatever the corpus. Order n log n. Disk: the text
once more, uncompressed. Runs are read by mapping them, of which Linux allows 65,530: 4 TB of text.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.arrow_files import map_batches, write_batches
from pipeline.tables import DOCS, REJECTS

RUN_BYTES = 64_000_000  # of text in one run, and in one range of ids: 300 GB are 4,700 runs of 4,700 slices
MAPPED_RANGES = 4  # mapping all runs anew for each one of 300 GB would take 20 minutes
RUN_REJECTS = 100_000
FAN_IN = 64  # runs open at once: far below the 256 files that the smallest systems allow
MERGE_ROWS = 1_024
ID_VALUES = 16**32


class Runs:
    """Sorted runs of one schema below `folder`, written while rows arrive."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema, order: Sequence[str]) -> None:
        self.folder, self.stem, self.schema = folder, stem, schema
        self.order = [(name, "ascending") for name in order]
        self.n_runs = self.n_bytes = 0
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = self._held_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        self._held_rows += batch.num_rows
        if self._held_bytes >= RUN_BYTES or (self.schema == REJECTS and self._held_rows >= RUN_REJECTS):
            self.flush()

    def flush(self) -> None:
        if self._held_rows:
            table = pa.Table.from_batches(self._held, self.schema)
            self._held = []
            path = self.folder / f"{self.stem}-{self.n_runs:05d}.arrow"
            write_batches(path, self.schema, _batches([table.sort_by(self.order)]))
            self.n_runs += 1
            self.n_bytes += self._held_bytes
            self._held_bytes = self._held_rows = 0


def document_runs(folder: Path) -> Runs:
    return Runs(folder, "docs", DOCS, ["id"])


def reject_runs(folder: Path) -> Runs:
    return Runs(folder, "rejects", REJECTS, REJECTS.names)


def run_paths(folders: Sequence[Path], stem: str) -> list[Path]:
    """The runs of these folders: folder by folder, and inside in the order they were written."""
    return [path for folder in folders for path in sorted(folder.glob(f"{stem}-*.arrow"))]


def _batches(tables: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
    """One for each table: `_Cursor` looks into a column as one array."""
    for table in tables:
        yield from table.combine_chunks().to_batches()


class _Cursor:
    """A mapped run and the first of its rows that has not been handed out."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        self.map()

    def map(self) -> None:
        """Maps the run anew: pages that were read no longer count as this process's memory."""
        self.table = map_batches(self.path).read_all()
        self.ids = self.table.column("id").chunk(0)

    def find(self, value: int) -> int:
        """The first row from here on whose id is not below `value`: a few steps, as it is near."""
        n_rows, name, step = len(self.ids), f"{value:032x}", 1
        if value == ID_VALUES:
            return n_rows
        while self.at + step < n_rows and self.ids[self.at + step].as_py() < name:
            step *= 2
        near, far = self.at + step // 2, min(self.at + step, n_rows)
        return bisect_left(range(n_rows), name, near, far, key=lambda row: self.ids[row].as_py())


def in_order_of_id(runs: Sequence[Path]) -> Iterator[pa.Table]:
    """All documents, range by range. Where an id comes twice, both rows are in one table, that of the earlier run first."""
    n_ranges = -(-sum(path.stat().st_size for path in runs) // RUN_BYTES)
    cursors = [_Cursor(path) for path in runs]
    for at in range(n_ranges):
        if at % MAPPED_RANGES == MAPPED_RANGES - 1:
            for cursor in cursors:
                cursor.map()
        yield from _range(cursors, ID_VALUES * at // n_ranges, ID_VALUES * (at + 1) // n_ranges)


def _range(cursors: Sequence[_Cursor], first: int, last: int) -> Iterator[pa.Table]:
    """The documents whose ids, as numbers, are in [first, last); those before are taken."""
    stops = [(cursor, cursor.find(last)) for cursor in cursors]
    slices = [cursor.table.slice(cursor.at, stop - cursor.at) for cursor, stop in stops if stop > cursor.at]
    if sum(table.nbytes for table in slices) > 2 * RUN_BYTES and last - first > 1:
        del slices
        yield from _range(cursors, first, (first + last) // 2)
        yield from _range(cursors, (first + last) // 2, last)
        return
    for cursor, stop in stops:
        cursor.at = stop
    if slices:
        yield pa.concat_tables(slices).sort_by("id")


def merged_rejects(runs: Sequence[Path], scratch: Path) -> Iterator[pa.Table]:
    """All rejects in order; writes runs of runs into `scratch` where there are more than `FAN_IN`."""
    level = 0
    while len(runs) > FAN_IN:
        wider: list[Path] = []
        for start in range(0, len(runs), FAN_IN):
            wider.append(scratch / f"merged-{level}-{start:08d}.arrow")
            write_batches(wider[-1], REJECTS, _batches(_merge(runs[start : start + FAN_IN])))
        runs, level = wider, level + 1
    yield from _merge(runs)


def _merge(runs: Sequence[Path]) -> Iterator[pa.Table]:
    rows: list[dict[str, object]] = []
    for row in heapq.merge(*map(_rows, runs)):
        rows.append(dict(zip(REJECTS.names, row, strict=True)))
        if len(rows) == MERGE_ROWS:
            yield pa.Table.from_pylist(rows, REJECTS)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, REJECTS)


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    table = map_batches(path).read_all()
    for start in range(0, table.num_rows, MERGE_ROWS):
        columns = table.slice(start, MERGE_ROWS).to_pydict()
        yield from zip(*(columns[name] for name in REJECTS.names), strict=True)
