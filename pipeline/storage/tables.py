"""Define schemas, and read and write Parquet: the only file of `pipeline/` that opens Parquet files (Arrow files: arrow.py).

In: a folder of `docs-*.parquet`. Out: record batches, one at a time; or a folder of the same kind, written shard by shard.
Memory: one batch while reading, one shard (`SHARD_BYTES` of text) while writing. Equal rows give equal bytes: fixed codec, no
timestamps, row groups split by rows and text size only.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.frame.errors import UserError
from pipeline.storage.values import iterate_rows

if TYPE_CHECKING:
    import polars as pl

DOCS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("locator", pa.string()),  # canonical JSON: the exact location in the source
        ("title", pa.string()),
        ("url", pa.string()),
        ("license", pa.string()),  # SPDX expression or "unknown"
        ("is_search_only", pa.bool_()),  # the index has it, training text does not; null: false
    ]
)

LEDGER = pa.schema(
    [
        ("id", pa.string()),
        ("stage", pa.string()),
        ("decision", pa.string()),  # dropped | changed | kept
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("other_id", pa.string()),
    ]
)

REJECTS = pa.schema(
    [("source", pa.string()), ("locator", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
)

TOKEN_DOCS = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),  # train | val
        ("start", pa.int64()),  # offset of the document's <|bos|> in its split's stream
        ("n_tokens", pa.int64()),
        ("n_bytes", pa.int64()),  # of the text in UTF-8
        ("source", pa.string()),
        ("license", pa.string()),
        ("title", pa.string()),
    ]
)

CONVERSATIONS = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("messages", pa.string()),  # JSON
        ("source", pa.string()),  # the name of a source of chats, `seed` or `skills`
        ("locator", pa.string()),  # file and line in the source; empty for what is made by program
        ("license", pa.string()),  # SPDX expression
    ]
)
HELDOUT = pa.schema([*CONVERSATIONS, ("expected", pa.string())])

SHARD_BYTES = 8_000_000  # of text per Parquet file: a corpus of 40 MB is work for two cores
BATCH_ROWS = 2_048
ROW_GROUP = 16_384
STREAM_BYTES = 1 << 20


def list_shards(folder: Path, stem: str = "docs") -> list[Path]:
    """Return the shards of a folder in order. Raises `UserError` if there are none."""
    paths = sorted(folder.glob(f"{stem}-*.parquet"))
    if not paths:
        found = "an empty folder" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        if folder.is_dir() and any(folder.iterdir()):
            found = "other files"
        raise UserError(
            f"{folder}: no {stem}-*.parquet files",
            found,
            "name a folder that a stage wrote, or run the stage that writes it (`make run` runs all)",
        )
    return paths


def read_batches(
    folder: Path, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of all `docs-*.parquet` in `folder`, in order."""
    for path in list_shards(folder):
        yield from read_shard(path, columns, batch_rows)


def read_shard(
    path: Path, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of one Parquet file. Raises `UserError` for a file that is not Parquet."""
    with report_unreadable(path), pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=None if columns is None else list(columns))


def read_training_shard(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of one Parquet file without the documents that are for search only."""
    for batch in read_shard(path, [*columns, "is_search_only"]):
        is_training = pc.invert(pc.fill_null(batch.column("is_search_only"), False))
        yield batch.filter(is_training).select(list(columns))


def read_training_batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of all `docs-*.parquet` in `folder`, in order, without the documents that are for search only."""
    for path in list_shards(folder):
        yield from read_training_shard(path, columns)


@contextmanager
def report_unreadable(path: Path) -> Generator[None]:
    """Convert errors about a broken or missing Parquet file in the `with` block to a `UserError` that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        todo = "delete it and run the stage that writes it again"
        raise UserError(f"{path}: not a readable Parquet file", str(error), todo) from error


def read_parquet_stream(stream: IO[bytes], columns: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the rows of a Parquet file from any source, with those of `columns` that it has (`values.iterate_rows`); other columns
    are not read. Memory: one batch and `STREAM_BYTES` per column, for any row group size. Raises `pa.ArrowException` or `OSError`
    for a broken file."""
    with pq.ParquetFile(stream, buffer_size=STREAM_BYTES) as file:
        leaves = [file.schema.column(at).path for at in range(len(file.schema))]
        wanted = [name for name in columns if any(f"{leaf}.".startswith(f"{name}.") for leaf in leaves)]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            yield from iterate_rows(batch, columns, file.schema_arrow.names, is_checked=True)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file as a table."""
    with report_unreadable(path):
        return pq.read_table(path, columns=None if columns is None else list(columns))


def read_docs(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read all documents of a folder as one table, for columns that fit in memory."""
    return pa.concat_tables([read_table(path, columns) for path in list_shards(folder)])


def count_docs(folder: Path) -> int:
    """Return the number of documents, read from the files' footers only."""
    n_docs = 0
    for path in list_shards(folder):
        with report_unreadable(path):
            n_docs += pq.read_metadata(path).num_rows
    return n_docs


def scan_docs(folder: Path, stem: str = "docs") -> pl.LazyFrame:
    """Return the documents of a folder as a lazy polars frame: columns and filters are pushed down into the files."""
    import polars  # lazily: workers of stages do not need it (0.14 s and 30 MB each)

    return polars.scan_parquet(list_shards(folder, stem))


def scan_table(path: Path) -> pl.LazyFrame:
    """Return one Parquet file as a lazy polars frame. Raises `UserError` if it does not exist."""
    import polars

    if not path.exists():
        raise UserError(f"{path}: no such file", "nothing", "run the stage that writes it (dvc repro)")
    return polars.scan_parquet(path)


def read_rows_between(paths: Sequence[Path], low: str, high: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows with `low` <= id < `high` of files that are sorted by id, as every stage writes its documents and its ledger.

    Opens the footers of log2(files) files and decodes only row groups whose statistics admit such an id: milliseconds.
    """
    parts: list[pa.Table] = []
    for path in paths[bisect_left(paths, low, key=_read_last_id) :]:
        with report_unreadable(path), pq.ParquetFile(path) as file:
            ranges = _get_id_ranges(file.metadata)
            if ranges and ranges[0][0] >= high:
                break
            groups = [group for group, (first, last) in enumerate(ranges) if first < high and last >= low]
            table = file.read_row_groups(groups, columns=None if columns is None else list(columns))
        ids = table.column("id")
        parts.append(table.filter(pc.and_(pc.greater_equal(ids, low), pc.less(ids, high))))
    names = columns or pq.read_schema(paths[0]).names
    return pa.concat_tables(parts) if parts else pq.read_schema(paths[0]).empty_table().select(list(names))


def _read_last_id(path: Path) -> str:
    with report_unreadable(path):
        ranges = _get_id_ranges(pq.read_metadata(path))
    return ranges[-1][1] if ranges else ""


def _get_id_ranges(metadata: pq.FileMetaData) -> list[tuple[str, str]]:
    """Return (first id, last id) of each row group; none for an empty file."""
    index = metadata.schema.names.index("id")
    columns = [metadata.row_group(group).column(index) for group in range(metadata.num_row_groups)]
    return [(column.statistics.min, column.statistics.max) for column in columns if column.num_values]


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file; equal rows give equal bytes."""
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, store_schema=False)


class TableWriter:
    """Write one Parquet file piece by piece, with the bytes that `write_table` gives for the concatenated pieces.

    `schema` defaults to that of the first piece. Memory: `ROW_GROUP` rows and one piece.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None) -> None:
        self._path, self._schema, self._rows = path, schema, 0
        self._pieces: list[pa.Table] = []
        self._file: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        self._schema = table.schema if self._schema is None else self._schema
        self._pieces.append(table.select(self._schema.names).cast(self._schema))
        self._rows += table.num_rows
        while self._rows >= ROW_GROUP:
            whole = pa.concat_tables(self._pieces)
            self._write(whole[:ROW_GROUP])
            self._pieces, self._rows = [whole[ROW_GROUP:]], self._rows - ROW_GROUP

    def _write(self, table: pa.Table) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, compression="zstd", store_schema=False)
        self._file.write_table(table, row_group_size=ROW_GROUP)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._rows or self._file is None):
            empty = [] if self._schema is None else [self._schema.empty_table()]
            self._write(pa.concat_tables([*self._pieces, *empty]))
        if self._file is not None:
            self._file.close()


def rechunk(tables: Iterable[pa.Table], n_rows: int, text_bytes: int = 0) -> Iterator[pa.Table]:
    """Yield the same rows in tables of `n_rows`, or fewer where their texts reach `text_bytes` first (0: no limit). The result does
    not depend on how the input was split, and long texts do not exhaust memory."""
    held: list[pa.Table] = []
    n_held = n_bytes = 0
    for table in tables:
        start, ends = 0, _compute_text_ends(table) if text_bytes else None
        while start < table.num_rows:
            stop = min(start + n_rows - n_held, table.num_rows)
            if ends is not None:
                before = ends[start - 1] if start else 0
                stop = min(stop, int(np.searchsorted(ends, before + text_bytes - n_bytes)) + 1)
                n_bytes += int(ends[stop - 1] - before)
            held.append(table.slice(start, stop - start))
            n_held, start = n_held + stop - start, stop
            if n_held == n_rows or (text_bytes and n_bytes >= text_bytes):
                yield pa.concat_tables(held).combine_chunks()
                held, n_held, n_bytes = [], 0, 0
    if n_held:
        yield pa.concat_tables(held).combine_chunks()


def _compute_text_ends(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the end of each text in bytes, if all texts were concatenated."""
    return np.cumsum(pc.binary_length(table.column("text")).to_numpy(), dtype=np.int64)


def write_ledger(folder: Path, rows: pa.Table | Iterable[dict[str, object]]) -> pa.Table:
    """Write `ledger.parquet` and return it, sorted by id and reason so that it does not depend on the order of work."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=LEDGER)
    table = table.cast(LEDGER).sort_by([("id", "ascending"), ("reason", "ascending")])
    write_table(folder / "ledger.parquet", table)
    return table


def make_dropped_rows(
    ids: pa.ChunkedArray | pa.Array, *, stage: str, reason: Any, value: Any, threshold: Any, other_id: Any
) -> pa.Table:
    """Return the ledger rows of documents that a stage drops; the other arguments are columns (NumPy or Arrow) as long as `ids`."""
    constant = {"stage": pa.repeat(stage, len(ids)), "decision": pa.repeat("dropped", len(ids))}
    reasons = pa.array(reason, pa.string())
    return pa.table(
        {"id": ids, **constant, "reason": reasons, "value": value, "threshold": threshold, "other_id": other_id}
    )


def flag_search_only(batch: pa.RecordBatch, is_search_only: Any) -> pa.RecordBatch:
    """Return the documents with `is_search_only` set for the flagged ones (one Boolean each) besides those that have it already."""
    before = pc.fill_null(batch.column("is_search_only"), False)
    at = batch.schema.get_field_index("is_search_only")
    return batch.set_column(at, "is_search_only", pc.or_(before, pa.array(is_search_only)))


class ShardWriter:
    """Write documents as `docs-00000.parquet`, … of about `shard_bytes` of text each."""

    def __init__(
        self, folder: Path, schema: pa.Schema = DOCS, shard_bytes: int = SHARD_BYTES, stem: str = "docs"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.schema, self.shard_bytes, self.stem = folder, schema, shard_bytes, stem
        self.n_docs = 0
        self.n_shards = 0
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        for part in table.select(self.schema.names).cast(self.schema).to_batches(max_chunksize=BATCH_ROWS):
            self._batches.append(part)
            self._bytes += int(pc.sum(pc.binary_length(part.column("text"))).as_py() or 0)
            self.n_docs += part.num_rows
            if self._bytes >= self.shard_bytes:
                self._flush()

    def _flush(self) -> None:
        if self._batches:
            path = self.folder / f"{self.stem}-{self.n_shards:05d}.parquet"
            write_table(path, pa.Table.from_batches(self._batches, self.schema))
            self.n_shards += 1
            self._batches, self._bytes = [], 0

    def close(self) -> None:
        """Write the remaining documents; an empty corpus still gets one empty shard, so that readers find a schema."""
        if self.n_shards == 0 and not self._batches:
            self._batches = [pa.RecordBatch.from_pylist([], schema=self.schema)]
        self._flush()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
