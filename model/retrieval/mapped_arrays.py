"""Write named NumPy arrays into one Arrow IPC file, and map them back: only the pages that are used are read.

In: one-dimensional arrays of any length and numeric type. Out: a file with one row, in which each array is a list. Equal arrays
give equal bytes. A file that is truncated or foreign is refused by name; nothing in it is executed.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import ipc

Array = npt.NDArray[Any]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays in their order."""
    columns = [
        pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), pa.array(np.ascontiguousarray(array)))
        for array in arrays.values()
    ]
    write_record_batch(path, pa.record_batch(columns, names=list(arrays)))


def map_arrays(path: Path, names: Iterable[str]) -> dict[str, Array]:
    """Return read-only views of the named arrays. Raises: ValueError for a file that is missing, truncated or has other arrays."""
    batch = map_record_batch(path)
    names = list(names)
    if missing := [name for name in names if name not in batch.schema.names or batch.num_rows != 1]:
        raise ValueError(describe_foreign(path, f"no array {missing[0]!r}"))
    try:
        return {name: batch.column(name).flatten().to_numpy(zero_copy_only=True) for name in names}
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise ValueError(describe_foreign(path, str(error))) from error


def write_record_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write one record batch as an uncompressed Arrow IPC file."""
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def map_record_batch(path: Path) -> pa.RecordBatch:
    """Return the only record batch of a file, read in place. Raises: ValueError that names a broken file."""
    try:
        reader = ipc.open_file(pa.memory_map(str(path)).read_buffer())
        if reader.num_record_batches != 1:
            raise ValueError(describe_foreign(path, f"{reader.num_record_batches} record batches"))
        return reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(describe_foreign(path, str(error))) from error


def describe_foreign(path: Path, found: str) -> str:
    """Return the message for a file of a retrieval folder that can't be used."""
    return (
        f"{path} is not a readable file of a search index; found: {' '.join(found.split())}; write it again: run the stages "
        "index and embed (make run), pull the version, or rebuild the collection"
    )
