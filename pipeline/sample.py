"""A part of the corpus that fits in memory: the documents whose hash of seed and id comes first, up to a number of bytes of text.

The same documents give the same sample in the same order, however they are cut into files, and a larger corpus costs no more
memory. In: a folder of documents. Out: a table in the order of the hash. Memory: twice the sample. Time: one pass.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.tables import DOCS, read_batches


def sample_docs(docs: Path, columns: Sequence[str], sample_bytes: int, seed: int) -> pa.Table:
    """The columns of whole documents, just enough of them to reach `sample_bytes` of text, or all."""
    names = list(dict.fromkeys(["id", "text", *columns]))
    kept = pa.schema([DOCS.field(name) for name in names]).empty_table().append_column("key", pa.array([], pa.uint64()))
    waiting: list[pa.Table] = []
    n_bytes = 0
    for batch in read_batches(docs, names):
        keys = [xxhash.xxh3_64_intdigest(id_.encode(), seed) for id_ in batch.column("id").to_pylist()]
        waiting.append(pa.Table.from_batches([batch]).append_column("key", pa.array(keys, pa.uint64())))
        n_bytes += batch.nbytes
        if n_bytes > sample_bytes:
            kept, waiting, n_bytes = first_bytes([kept, *waiting], sample_bytes), [], 0
    return first_bytes([kept, *waiting], sample_bytes).select(list(columns))


def first_bytes(tables: Sequence[pa.Table], sample_bytes: int) -> pa.Table:
    """The rows with the smallest keys until their texts reach `sample_bytes`."""
    table = pa.concat_tables(tables).sort_by([("key", "ascending"), ("id", "ascending")])
    ends = np.cumsum(pc.binary_length(table.column("text")).to_numpy().astype(np.int64))
    return table[: int(np.searchsorted(ends, sample_bytes)) + 1].combine_chunks()
