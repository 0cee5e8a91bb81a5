"""Which document is the best, which is a copy: over more documents than memory holds.

In: sketches of shards (`pipeline/dedupe/stage.py`), one Arrow file each. Out: for each place in the corpus its rank (0 is the best:
priority of the source, then the longer text, then the smaller id), for each rank its place, and the best rank with the same
text. All of them are arrays in files below the scratch folder.

Documents are ranked by the external sort (pipeline/storage/sort.py). Texts are compared by parts: the highest bits of a digest
name its part, and each part is sorted in memory. Memory: `memory_bytes`. Disk: 24 bytes a document for each of the two sorts, its
id for the first, 24 in the arrays. Time: n log n.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dedupe.arrays import Records, Spool, StringFile, file_array, part_count
from pipeline.storage.arrow import read_arrow
from pipeline.storage.sort import Sorter
from pipeline.text.columns import Hashes, Rows

ARRAY_BYTES = 75  # a document in all arrays together
CHUNK = 1 << 20  # documents filled in or looked through at a time

BY_QUALITY = pa.schema(
    [("priority", pa.int64()), ("minus_n_bytes", pa.int64()), ("id", pa.string()), ("place", pa.int64())]
)
BY_DIGEST = np.dtype([("high", "<u8"), ("low", "<u8"), ("rank", "<i8")])


@dataclass(frozen=True)
class Corpus:
    """All documents by their place, 0, 1, …, in the order of the shards."""

    sketches: Sequence[Path]
    firsts: Rows  # place of each shard's first document, and the number of documents
    ids: StringFile
    is_known: npt.NDArray[np.bool_]  # earlier runs kept the like of it
    n_text_bytes: int
    folder: Path
    memory_bytes: int

    @property
    def n_docs(self) -> int:
        return int(self.firsts[-1])

    def tables(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Place of the first document, and the columns of the shard."""
        for first, path in zip(self.firsts.tolist(), self.sketches, strict=False):
            yield first, read_arrow(path, columns)

    def spool(self, name: str, dtype: npt.DTypeLike, n_parts: int) -> Spool:
        return Spool(self.folder / name, dtype, n_parts, self.memory_bytes // 4)

    def array(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """One number a document, zeros at first. Few documents need no files: they are no more than an eighth of the memory."""
        if self.n_docs * ARRAY_BYTES <= self.memory_bytes // 8:
            return np.zeros(self.n_docs, dtype)
        return file_array(self.folder / f"{name}.bin", dtype, self.n_docs)


@dataclass(frozen=True)
class Ranks:
    """`of_place[place]` is a document's rank, `to_place[rank]` its place."""

    of_place: Rows
    to_place: Rows


def rank_documents(corpus: Corpus) -> Ranks:
    """Rank the best document first. Documents that are equal in all three stay in the corpus's order."""
    folder, by = corpus.folder / "by_quality", ["priority", "minus_n_bytes", "id"]
    sorter = Sorter(folder, BY_QUALITY, by, max(1, corpus.memory_bytes // 8))
    for first, table in corpus.tables(["id", "priority", "n_bytes"]):
        places = pa.array(np.arange(first, first + len(table)))
        columns = [table.column("priority"), pc.negate(table.column("n_bytes")), table.column("id"), places]
        sorter.write(pa.table(columns, schema=BY_QUALITY))
    of_place, to_place = corpus.array("rank_of_place", np.int64), corpus.array("place_of_rank", np.int64)
    rank = 0
    for table in sorter.read():
        places = table.column("place").to_numpy()
        to_place[rank : rank + len(places)] = places
        of_place[places] = np.arange(rank, rank + len(places))
        rank += len(places)
    return Ranks(of_place, to_place)


def first_equal(corpus: Corpus, ranks: Ranks) -> Rows:
    """For each rank the best rank with the same text. What earlier runs knew is left alone."""
    n_parts = part_count(corpus.n_docs * BY_DIGEST.itemsize, corpus.memory_bytes)
    spool = corpus.spool("by_digest", BY_DIGEST, n_parts)
    for first, table in corpus.tables(["digest"]):
        is_new = ~corpus.is_known[first : first + len(table)]
        digests = fixed_bytes(table.column("digest"), np.uint64, 2)[is_new]
        records = np.empty(len(digests), BY_DIGEST)
        records["high"], records["low"] = digests[:, 0], digests[:, 1]
        records["rank"] = ranks.of_place[first : first + len(table)][is_new]
        spool.write(records, top_bits(records["high"], n_parts))
    exact = corpus.array("exact", np.int64)
    fill_with_places(exact)
    for part in range(n_parts):
        records = equal_neighbours(spool.drain(part), "high")
        records = records[np.lexsort((records["rank"], records["low"], records["high"]))]
        is_first = np.ones(len(records), bool)
        is_first[1:] = (np.diff(records["high"]) != 0) | (np.diff(records["low"]) != 0)
        best = records["rank"][np.maximum.accumulate(np.where(is_first, np.arange(len(records)), 0))]
        exact[records["rank"]] = best
    return exact


def equal_neighbours(records: Records, key: str) -> Records:
    """Those whose key another one has as well, sorted by it: few, so that what follows may be slow."""
    records = records[np.argsort(records[key])]
    is_same = np.diff(records[key]) == 0
    return records[np.append(is_same, False) | np.append(False, is_same)] if len(records) else records


def top_bits(keys: Hashes, n_parts: int) -> Rows:
    """A part for each key, by its highest bits: parts follow the order of the keys. `n_parts` is a power of two."""
    if n_parts == 1:
        return np.zeros(keys.shape, np.int64)
    return (keys >> np.uint64(65 - n_parts.bit_length())).astype(np.int64)


def fixed_bytes(column: pa.ChunkedArray, dtype: npt.DTypeLike, width: int) -> npt.NDArray[np.uint64]:
    """A column of fixed-size binary as rows of `width` numbers."""
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype)[chunk.offset * width :][: len(chunk) * width].reshape(-1, width)
        for chunk in column.chunks
    ]
    return np.concatenate([np.zeros((0, width), dtype), *parts])


def fill_with_places(array: Rows) -> None:
    """0, 1, 2, …"""
    for first in range(0, len(array), CHUNK):
        stop = min(len(array), first + CHUNK)
        array[first:stop] = np.arange(first, stop)
