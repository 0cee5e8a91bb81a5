"""Sample a corpus by hash: take the documents with the smallest hash of seed and id, up to a number of bytes of text.

The sample does not depend on how documents are split into files. In: a folder of documents. Out of `sample_docs`: a table in the
order of the hash, in one pass; memory: twice the sample. Out of `write_sample`: a folder of files with a share for each source and,
besides the sample, some held-out documents, in two passes; memory: 100 bytes per sampled document and the texts of one file, for
any size of the sample.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.storage.tables import DOCS, ShardWriter, read_batches, read_training_batches

SAMPLED = pa.schema([("source", pa.string()), ("text", pa.string()), ("is_heldout", pa.bool_())])
Place = tuple[int, str]  # position of a document in the order: its hash and its id
BEFORE_ALL: Place = (-1, "")


class Drawn(NamedTuple):
    """Hold the last document, in the order of the hash, of a group's sample and of the held-out documents that follow it."""

    sample_end: Place
    heldout_end: Place


def sample_docs(docs: Path, columns: Sequence[str], sample_bytes: int, seed: int) -> pa.Table:
    """Return some columns of just enough whole documents to reach `sample_bytes` of text, or of all documents."""
    names = list(dict.fromkeys(["id", "text", *columns]))
    first = Smallest(sample_bytes)
    first.add(_add_keys(pa.Table.from_batches([], pa.schema([DOCS.field(name) for name in names])), seed))
    for batch in read_batches(docs, names):
        first.add(_add_keys(pa.Table.from_batches([batch]), seed))
    return first.rows().select(list(columns))


def write_sample(
    docs: Path, folder: Path, shares: Mapping[str, float], sample_bytes: int, seed: int, heldout_frac: float = 0.0
) -> None:
    """Write the sampled documents as a folder of `SAMPLED`, in the order of the corpus.

    Each document belongs to the longest prefix in `shares` that its source begins with; a document without one is not sampled. A
    prefix with less text than its share contributes all of it; the others do not make up for that. For each prefix, the documents
    that follow its sample are held out, up to `heldout_frac` of its bytes. Documents for search only are not sampled.
    """
    total, prefixes = sum(shares.values()), sorted(shares, key=len, reverse=True)
    bounds = {prefix: round(sample_bytes * shares[prefix] / total) for prefix in prefixes}
    firsts = {prefix: Smallest(round(bounds[prefix] * (1.0 + heldout_frac)) + 1) for prefix in prefixes}

    @cache
    def find_group(source: str) -> int:
        return next((number for number, prefix in enumerate(prefixes) if source.startswith(prefix)), -1)

    def find_groups(rows: pa.Table) -> npt.NDArray[np.int64]:
        return np.fromiter(map(find_group, rows.column("source").to_pylist()), np.int64, rows.num_rows)

    for batch in read_training_batches(docs, ["id", "text", "source"]):
        rows = _add_keys(pa.Table.from_batches([batch]), seed)
        groups = find_groups(rows)
        for number in np.unique(groups[groups >= 0]):
            firsts[prefixes[number]].add(rows.select(["id", "n_bytes", "key"]).filter(pa.array(groups == number)))
    drawn = [_find_ends(firsts[prefix].rows(), bounds[prefix], heldout_frac) for prefix in prefixes]
    with ShardWriter(folder, SAMPLED) as writer:
        for batch in read_training_batches(docs, ["id", "text", "source"]):
            rows = _add_keys(pa.Table.from_batches([batch]), seed)
            writer.write(_choose_rows(rows, find_groups(rows), drawn))


class Smallest:
    """Keep the rows with the smallest keys until their `n_bytes` reach a limit; rows beyond it are discarded as more are added."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._parts: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        self._parts.append(rows)
        self._held += rows.nbytes + (pc.sum(rows.column("n_bytes")).as_py() or 0)
        if self._held > 2 * self._limit:
            self._parts, self._held = [self.rows()], 0

    def rows(self) -> pa.Table:
        """Return the rows in the order of their keys."""
        if not self._parts:
            return pa.table({"id": pa.array([], pa.string()), "n_bytes": [], "key": pa.array([], pa.uint64())})
        rows = pa.concat_tables(self._parts).sort_by([("key", "ascending"), ("id", "ascending")])
        return rows[: _count_rows(rows, self._limit)].combine_chunks()


def _add_keys(rows: pa.Table, seed: int) -> pa.Table:
    keys = [xxhash.xxh3_64_intdigest(id_.encode(), seed) for id_ in rows.column("id").to_pylist()]
    n_bytes = pc.binary_length(rows.column("text")).cast(pa.int64())
    return rows.append_column("n_bytes", n_bytes).append_column("key", pa.array(keys, pa.uint64()))


def _count_rows(rows: pa.Table, n_bytes: int) -> int:
    """Return how many rows, from the first on, reach `n_bytes`; all of them if they don't."""
    ends = np.cumsum(rows.column("n_bytes").to_numpy(), dtype=np.int64)
    return min(int(np.searchsorted(ends, n_bytes)) + 1, rows.num_rows)


def _find_ends(rows: pa.Table, n_bytes: int, heldout_frac: float) -> Drawn:
    """Return the last documents of the sample and of the held-out documents; `rows` are in the order of their keys."""
    keys, ids = rows.column("key"), rows.column("id")
    n_sample = _count_rows(rows, n_bytes)
    n_both = n_sample + _count_rows(rows[n_sample:], round(n_bytes * heldout_frac)) if heldout_frac else n_sample

    def place(n_rows: int) -> Place:
        return (keys[n_rows - 1].as_py(), ids[n_rows - 1].as_py()) if n_rows else BEFORE_ALL

    return Drawn(place(n_sample), place(n_both))


def _choose_rows(rows: pa.Table, groups: npt.NDArray[np.int64], drawn: Sequence[Drawn]) -> pa.Table:
    is_sample, is_heldout = np.zeros(rows.num_rows, bool), np.zeros(rows.num_rows, bool)
    for number, ends in enumerate(drawn):
        is_sample |= (groups == number) & _is_up_to(rows, ends.sample_end)
        is_heldout |= (groups == number) & _is_up_to(rows, ends.heldout_end)
    is_heldout &= ~is_sample
    chosen = rows.append_column("is_heldout", pa.array(is_heldout))
    return chosen.filter(pa.array(is_sample | is_heldout)).select(SAMPLED.names)


def _is_up_to(rows: pa.Table, end: Place) -> npt.NDArray[np.bool_]:
    """Return whether each row comes no later than `end` in the order."""
    keys, ids = rows.column("key").to_numpy(), rows.column("id")
    if end == BEFORE_ALL:
        return np.zeros(len(keys), bool)
    is_up_to = keys < np.uint64(end[0])
    for row in np.flatnonzero(keys == np.uint64(end[0])):
        is_up_to[row] = ids[int(row)].as_py() <= end[1]
    return is_up_to
