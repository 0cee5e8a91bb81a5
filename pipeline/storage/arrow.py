"""Read and write uncompressed Arrow IPC files: the only file of `pipeline/` that opens them (model/data/batches.py reads tokens).

They are token shards, which stages pass on, and the files of scratch folders and indexes: whole tables, growing streams, and
batches that are read in place. Memory: what is written at once; of mapped files only the pages that are accessed.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import ipc

from pipeline.frame.errors import UserError
from pipeline.storage.values import iterate_rows

BATCH_ROWS = 2_048
FILE_MAGIC = b"ARROW1"


def make_tokens_schema(dtype: pa.DataType) -> pa.Schema:
    """Return the schema TOKENS: one column without nulls, uint16 or uint32."""
    return pa.schema([pa.field("tokens", dtype, nullable=False)])


class TokenFile:
    """Write one uncompressed Arrow IPC file of tokens, chunk by chunk, in batches of `batch_tokens`."""

    def __init__(self, path: Path, dtype: pa.DataType, batch_tokens: int = 1 << 20) -> None:
        self.path, self.n_tokens = path, 0
        self._schema, self._size = make_tokens_schema(dtype), batch_tokens
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = ipc.new_file(self._sink, self._schema)
        self._pending: list[pa.Array] = []
        self._waiting = 0

    def write(self, chunk: pa.Array) -> None:
        self._pending.append(chunk.cast(self._schema.field(0).type))
        self._waiting += len(chunk)
        self.n_tokens += len(chunk)
        while self._waiting >= self._size:
            whole = pa.concat_arrays(self._pending)
            self._writer.write_batch(pa.record_batch([whole[: self._size]], schema=self._schema))
            self._pending, self._waiting = [whole[self._size :]], self._waiting - self._size

    def close(self) -> None:
        if self._waiting:
            self._writer.write_batch(pa.record_batch([pa.concat_arrays(self._pending)], schema=self._schema))
        self._writer.close()
        self._sink.close()
        self._pending = []


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table as one uncompressed Arrow IPC file."""
    write_batches(path, table.schema, table.to_batches())


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read an Arrow IPC file, or only some of its columns."""
    with pa.OSFile(str(path), "rb") as file:
        names = ipc.open_file(file).schema.names
        fields = [names.index(name) for name in columns or names]
        return (
            ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=fields)).read_all().select(columns or names)
        )


def append_stream(path: Path, table: pa.Table) -> None:
    """Append rows to a file of Arrow streams, for data that is written and read once."""
    with path.open("ab") as sink, ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def read_stream(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a file of `append_stream`, in the order in which they were added."""
    with path.open("rb") as file:
        size = path.stat().st_size
        while file.tell() < size:
            with ipc.open_stream(file) as stream:
                yield from stream


def read_arrow_rows(stream: IO[bytes], columns: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the rows of an Arrow file or stream from any source that can seek, with those of `columns` that it has
    (`values.iterate_rows`). Memory: a batch. Raises `pa.ArrowException` or `OSError` for a broken file."""
    is_file = stream.read(len(FILE_MAGIC)) == FILE_MAGIC
    stream.seek(0)
    schema = ipc.open_file(stream).schema if is_file else ipc.open_stream(stream).schema
    stream.seek(0)
    tops = {name if name in schema.names else name.split(".")[0] for name in columns}
    fields = [at for at, name in enumerate(schema.names) if name in tops] or [0]  # none would mean all
    options = ipc.IpcReadOptions(included_fields=fields[: len(schema.names)])
    reader: Any = ipc.open_file(stream, options=options) if is_file else ipc.open_stream(stream, options=options)
    batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from iterate_rows(batch[start : start + BATCH_ROWS], columns, schema.names, is_checked=False)


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> list[int]:
    """Write one uncompressed Arrow IPC file batch by batch. Return the number of rows of each batch."""
    rows: list[int] = []
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows.append(batch.num_rows)
    return rows


def map_batches(path: Path) -> pa.RecordBatchFileReader:
    """Map an Arrow IPC file: `get_batch(i)`, `read_all()` and slices of these take no memory of their own and read only the pages
    that are accessed."""
    try:
        return ipc.open_file(pa.memory_map(str(path)).read_buffer())  # a buffer needs no thread to read it
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: not a readable Arrow file", str(error), "delete it and run its stage again"
        ) from error


def zero_lists(path: Path, column: str, rows: Iterable[tuple[int, int]]) -> None:
    """Overwrite some lists in a file of `write_batches` with zeros, in place. `rows` are (batch, row in the batch)."""
    whole = pa.memory_map(str(path)).read_buffer()
    reader = ipc.open_file(whole)
    with path.open("r+b") as file:
        for batch, row in rows:
            lists = reader.get_batch(batch).column(column)
            start, stop = lists.offsets[row].as_py(), lists.offsets[row + 1].as_py()
            if start == stop:  # without any values in the batch there is no buffer either
                continue
            n_bytes = lists.values.type.bit_width // 8
            file.seek(lists.values.buffers()[1].address - whole.address + start * n_bytes)
            file.write(bytes((stop - start) * n_bytes))
        file.flush()
        os.fsync(file.fileno())
