"""Sort rows that do not fit in memory: write sorted runs to disk, then merge all of them in one pass.

In: tables in any order. Out: tables that follow each other in ascending order of the key columns (`by`, without nulls). Rows with
equal keys are in one table, in the order in which they were written: the sort is stable, and how rows were cut into tables and
runs makes no difference.
Memory: four times `run_bytes` (the rows of a run or of a part of the merge, their order, the sorted copy) and 5 kB per run, plus
the mapped pages of a few parts; a part is larger only where equal keys fill it.
Disk: the rows once, uncompressed. Time: n log n; each byte is written once and read once.
Runs are memory-mapped, of which Linux allows 65,530 per process: 4 TB.
"""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from pipeline.storage.arrow import map_batches, write_batches

RUN_BYTES = 64_000_000  # of rows in a run, and in a part of the merge: 300 GB are 4,700 runs of 4,700 slices
SAMPLES_PER_PART = 16
MAPPED_PARTS = 4  # remapping all runs for each part of 300 GB would take 20 minutes
GOLDEN_RATIO = 0.6180339887498949  # its multiples modulo 1 are spread evenly

Key: TypeAlias = tuple[Any, ...]


class RunWriter:
    """Write rows as sorted runs `folder/stem-00000.arrow`, …; `flush` writes the last one."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema, by: Sequence[str], run_bytes: int = 0) -> None:
        self.folder, self.stem, self.schema, self.by = folder, stem, schema, by
        self.run_bytes = run_bytes or RUN_BYTES
        self.n_runs = 0
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        self._pending.append(pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows)
        self._pending_bytes += rows.nbytes
        if self._pending_bytes >= self.run_bytes:
            self.flush()

    def flush(self) -> None:
        table = self.take_pending()
        if table.num_rows:
            path = self.folder / f"{self.stem}-{self.n_runs:05d}.arrow"
            write_batches(path, self.schema, table.combine_chunks().to_batches())
            self.n_runs += 1

    def take_pending(self) -> pa.Table:
        """Return the rows that are in no run yet, sorted, and forget them."""
        table = pa.concat_tables([self.schema.empty_table(), *self._pending])
        self._pending, self._pending_bytes = [], 0
        return _sort_table(table, self.by)


class Sorter:
    """Sort one stream of rows below `folder`: write all rows, then read them once. Rows that fit in one run never touch the
    disk."""

    def __init__(self, folder: Path, schema: pa.Schema, by: Sequence[str], run_bytes: int = 0) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # left by a stopped run
        folder.mkdir(parents=True)
        self.folder, self._runs = folder, RunWriter(folder, "run", schema, by, run_bytes)

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        self._runs.write(rows)

    def read(self) -> Iterator[pa.Table]:
        """Yield all rows in order, then remove the folder."""
        if self._runs.n_runs:
            self._runs.flush()
            yield from merge_runs(list_runs([self.folder], "run"), self._runs.by, self._runs.run_bytes)
        elif (table := self._runs.take_pending()).num_rows:
            yield table
        shutil.rmtree(self.folder)


def list_runs(folders: Sequence[Path], stem: str) -> list[Path]:
    """Return the runs of these folders: folder by folder, and within each in the order in which they were written."""
    return [path for folder in folders for path in sorted(folder.glob(f"{stem}-*.arrow"))]


def merge_runs(paths: Sequence[Path], by: Sequence[str], part_bytes: int = 0) -> Iterator[pa.Table]:
    """Yield the rows of all runs in order, in tables of about `part_bytes`."""
    part_bytes = part_bytes or RUN_BYTES
    runs = [_Run(path, by) for path in paths]
    for number, stop in enumerate([*_split_keys(runs, part_bytes), None]):
        if number % MAPPED_PARTS == MAPPED_PARTS - 1:
            for run in runs:
                run.map()
        yield from _merge_part(runs, stop, by, part_bytes)


class _Run:
    """A mapped run and its first row that has not been merged."""

    def __init__(self, path: Path, by: Sequence[str]) -> None:
        self.path, self.by, self.at = path, by, 0
        self.map()

    def map(self) -> None:
        """Map the file again: pages that were read no longer count as this process's memory."""
        self.table = map_batches(self.path).read_all()
        self._keys = [self.table.column(name).chunk(0) for name in self.by]

    def get_key(self, row: int) -> Key:
        return tuple(column[row].as_py() for column in self._keys)

    def find(self, stop: Key | None) -> int:
        """Return the first row from `at` on whose key is not below `stop`, in few steps if it is near."""
        n_rows, step = self.table.num_rows, 1
        if stop is None:
            return n_rows
        while self.at + step < n_rows and self.get_key(self.at + step) < stop:
            step *= 2
        return bisect_left(range(n_rows), stop, self.at + step // 2, min(self.at + step, n_rows), key=self.get_key)

    def sample_keys(self, n: int, shift: float) -> list[Key]:
        """Return the keys of `n` rows at equal distances, the first one `shift` of a distance from the start."""
        return [self.get_key(int((number + shift) * self.table.num_rows / n)) for number in range(n)]


def _split_keys(runs: Sequence[_Run], part_bytes: int) -> list[Key]:
    """Return the keys at which parts of about `part_bytes` begin. The runs are sampled at different quantiles, as their keys are
    often distributed alike."""
    sizes = [run.path.stat().st_size for run in runs]
    n_parts = -(-sum(sizes) // part_bytes)
    if n_parts <= 1:
        return []
    counts = [-(-SAMPLES_PER_PART * size // part_bytes) for size in sizes]
    shifts = [number * GOLDEN_RATIO % 1.0 for number in range(len(runs))]
    samples = sorted(
        key for run, n, shift in zip(runs, counts, shifts, strict=True) for key in run.sample_keys(n, shift)
    )
    return sorted({samples[number * len(samples) // n_parts] for number in range(1, n_parts)})


def _merge_part(runs: Sequence[_Run], stop: Key | None, by: Sequence[str], part_bytes: int) -> Iterator[pa.Table]:
    """Yield the remaining rows with keys below `stop`; split them again if they are more than twice `part_bytes`."""
    ends = [(run, end) for run in runs if (end := run.find(stop)) > run.at]
    slices = [run.table.slice(run.at, end - run.at) for run, end in ends]
    if sum(table.nbytes for table in slices) > 2 * part_bytes:
        del slices
        middle = sorted(run.get_key((run.at + end) // 2) for run, end in ends)[len(ends) // 2]
        if middle > min(run.get_key(run.at) for run, _ in ends):
            yield from _merge_part(runs, middle, by, part_bytes)
            yield from _merge_part(runs, stop, by, part_bytes)
            return
        slices = [run.table.slice(run.at, end - run.at) for run, end in ends]
    for run, end in ends:
        run.at = end
    if slices:
        yield _sort_table(pa.concat_tables(slices), by)


def _sort_table(table: pa.Table, by: Sequence[str]) -> pa.Table:
    return table.combine_chunks().sort_by([(name, "ascending") for name in by])
