"""Rank documents and find exact duplicates, for more documents than fit in memory.

In: sketches of shards (`sketches.py`), one Arrow file each. Out: for each position in the corpus its rank (0 is the best: priority
of the source, then the longer text, then the smaller id), for each rank its position, and the best rank with the same text. All of
them are arrays in files below the scratch folder.

Documents are ranked by the external sort (pipeline/storage/sort.py). Texts are compared by parts: the highest bits of a digest
select its part, and each part is sorted in memory. Memory: `memory_bytes`. Disk: 24 bytes per document for each of the two sorts,
its id for the first, 24 in the arrays. Time: n log n.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dedupe.arrays import Records, Spool, StringFile, count_parts, make_file_array
from pipeline.storage.arrow import read_arrow
from pipeline.storage.sort import Sorter
from pipeline.text.columns import Hashes, Rows

ARRAY_BYTES = 85  # per document, in all arrays together
CHUNK = 1 << 20  # documents processed at a time

BY_QUALITY = pa.schema(
    [("priority", pa.int64()), ("minus_n_bytes", pa.int64()), ("id", pa.string()), ("position", pa.int64())]
)
BY_DIGEST = np.dtype([("high", "<u8"), ("low", "<u8"), ("rank", "<i8")])


@dataclass(frozen=True)
class Corpus:
    """Describe all documents by position: 0, 1, … in the order of the shards."""

    sketches: Sequence[Path]
    firsts: Rows  # positions of the first documents of the shards, then the number of documents
    ids: StringFile
    is_known: npt.NDArray[np.bool_]  # an earlier run kept a duplicate
    n_text_bytes: int
    folder: Path
    memory_bytes: int

    @property
    def n_docs(self) -> int:
        return int(self.firsts[-1])

    def read_tables(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Yield (position of the first document, columns) for each shard."""
        for first, path in zip(self.firsts.tolist(), self.sketches, strict=False):
            yield first, read_arrow(path, columns)

    def make_spool(self, name: str, dtype: npt.DTypeLike, n_parts: int) -> Spool:
        return Spool(self.folder / name, dtype, n_parts, self.memory_bytes // 4)

    def make_array(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return one number per document, initially zero. The arrays are in memory if all of them take at most an eighth of it."""
        if self.n_docs * ARRAY_BYTES <= self.memory_bytes // 8:
            return np.zeros(self.n_docs, dtype)
        return make_file_array(self.folder / f"{name}.bin", dtype, self.n_docs)


@dataclass(frozen=True)
class Ranks:
    """Map positions to ranks (`of_position[position]`) and ranks to positions (`to_position[rank]`)."""

    of_position: Rows
    to_position: Rows


class Decisions(NamedTuple):
    """Record by position which documents are kept, and which of these are for search only."""

    is_kept: npt.NDArray[Any]
    is_search_only: npt.NDArray[Any]


def rank_documents(corpus: Corpus) -> Ranks:
    """Rank the documents, best first. Documents that agree in all three criteria keep the order of the corpus."""
    folder, by = corpus.folder / "by_quality", ["priority", "minus_n_bytes", "id"]
    sorter = Sorter(folder, BY_QUALITY, by, max(1, corpus.memory_bytes // 8))
    for first, table in corpus.read_tables(["id", "priority", "n_bytes"]):
        positions = pa.array(np.arange(first, first + len(table)))
        columns = [table.column("priority"), pc.negate(table.column("n_bytes")), table.column("id"), positions]
        sorter.write(pa.table(columns, schema=BY_QUALITY))
    of_position, to_position = (
        corpus.make_array("rank_of_position", np.int64),
        corpus.make_array("position_of_rank", np.int64),
    )
    rank = 0
    for table in sorter.read():
        positions = table.column("position").to_numpy()
        to_position[rank : rank + len(positions)] = positions
        of_position[positions] = np.arange(rank, rank + len(positions))
        rank += len(positions)
    return Ranks(of_position, to_position)


def find_first_equal(corpus: Corpus, ranks: Ranks) -> Rows:
    """Return for each rank the best rank with the same text. Documents that earlier runs kept are left out."""
    n_parts = count_parts(corpus.n_docs * BY_DIGEST.itemsize, corpus.memory_bytes)
    spool = corpus.make_spool("by_digest", BY_DIGEST, n_parts)
    for first, table in corpus.read_tables(["digest"]):
        is_new = ~corpus.is_known[first : first + len(table)]
        digests = view_fixed_bytes(table.column("digest"), np.uint64, 2)[is_new]
        records = np.empty(len(digests), BY_DIGEST)
        records["high"], records["low"] = digests[:, 0], digests[:, 1]
        records["rank"] = ranks.of_position[first : first + len(table)][is_new]
        spool.write(records, assign_parts(records["high"], n_parts))
    exact = corpus.make_array("exact", np.int64)
    fill_with_positions(exact)
    for part in range(n_parts):
        records = select_equal_neighbors(spool.drain(part), "high")
        records = records[np.lexsort((records["rank"], records["low"], records["high"]))]
        is_first = np.ones(len(records), bool)
        is_first[1:] = (np.diff(records["high"]) != 0) | (np.diff(records["low"]) != 0)
        best = records["rank"][np.maximum.accumulate(np.where(is_first, np.arange(len(records)), 0))]
        exact[records["rank"]] = best
    return exact


def select_equal_neighbors(records: Records, key: str) -> Records:
    """Return the records whose key occurs more than once, sorted by it. They are few, so that later steps may be slow."""
    records = records[np.argsort(records[key])]
    is_same = np.diff(records[key]) == 0
    return records[np.append(is_same, False) | np.append(False, is_same)] if len(records) else records


def assign_parts(keys: Hashes, n_parts: int) -> Rows:
    """Return the part of each key, which is its highest bits: parts follow the order of the keys. `n_parts` is a power of two."""
    if n_parts == 1:
        return np.zeros(keys.shape, np.int64)
    return (keys >> np.uint64(65 - n_parts.bit_length())).astype(np.int64)


def view_fixed_bytes(column: pa.ChunkedArray, dtype: npt.DTypeLike, width: int) -> npt.NDArray[np.uint64]:
    """Return a column of fixed-size binary values as rows of `width` numbers."""
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype)[chunk.offset * width :][: len(chunk) * width].reshape(-1, width)
        for chunk in column.chunks
    ]
    return np.concatenate([np.zeros((0, width), dtype), *parts])


def fill_with_positions(array: Rows) -> None:
    """Fill an array with 0, 1, 2, …"""
    for first in range(0, len(array), CHUNK):
        stop = min(len(array), first + CHUNK)
        array[first:stop] = np.arange(first, stop)
