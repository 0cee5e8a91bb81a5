"""One run of a folder index, mapped: who in it has this id, this text, or a set of shingles like this one.

In: columns of new documents, and which rows of them to look up. Out: pairs of rows, verified: a key nominates, the id, the digest
or the true Jaccard decides. Memory: the sets of one block of candidates (`BLOCK_SETS`) and 16 bytes a pair of rows that share
a band (`BLOCK_PAIRS` at a time, or all those of one document). The source of the method is `pipeline/dedupe/minhash/signatures.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash.matches import (
    Pairs,
    SortedKeys,
    Wanted,
    digest_bytes,
    digest_keys,
    id_keys,
    jaccard_between,
    meet,
    pair_up,
    sort_keys,
    union,
)
from pipeline.dedupe.minhash.shingles import Shingles, as_sets, select
from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.seen.runs import Content, Settings
from pipeline.frame.errors import UserError
from pipeline.storage.arrow import map_batches, zero_lists
from pipeline.text.columns import Fractions, Hashes, Rows

DOCS = pa.schema([("id", pa.string()), ("digest", pa.binary(16)), ("shingles", pa.large_list(pa.uint64()))])
KEYS = pa.schema([("key", pa.uint64()), ("row", pa.uint32())])
IDS, DIGESTS, BANDS = 0, 1, 2  # batches of keys.arrow
BLOCK_SETS = 4_096
BLOCK_PAIRS = 4_000_000


class MappedRun:
    """`removed`: rows that count as gone."""

    def __init__(self, folder: Path, removed: Mapping[int, str]) -> None:
        run = read_run(folder)
        self.folder, self.n_docs = folder, int(run["n_docs"])
        self._starts = np.cumsum([0, *run["batch_docs"]])
        self._removed = np.array(sorted(removed), np.int64)
        self._keys = map_batches(folder / "keys.arrow")

    @cached_property
    def _docs(self) -> pa.RecordBatchFileReader:
        return map_batches(self.folder / "docs.arrow")  # most questions end at the keys

    def meet_ids(self, ids: pa.StringArray, keys: Wanted, is_asked: np.ndarray) -> Pairs:
        """Pairs with the same id."""
        pairs = self._nominate(IDS, keys, is_asked)
        here, there = ids.take(pa.array(pairs.wanted)), self.ids_of(pairs.found)
        return _keep(pairs, np.array([a == b for a, b in zip(here.to_pylist(), there.to_pylist(), strict=True)], bool))

    def meet_digests(self, digests: pa.FixedSizeBinaryArray, keys: Wanted, is_asked: np.ndarray) -> Pairs:
        """Pairs with the same normalised text."""
        pairs = self._nominate(DIGESTS, keys, is_asked)
        there = digest_bytes(self._take("digest", pairs.found))
        return _keep(pairs, (digest_bytes(digests)[pairs.wanted] == there).all(axis=1))

    def meet_sets(
        self, shingles: Shingles, bands: Sequence[Wanted], is_asked: np.ndarray, min_jaccard: float
    ) -> tuple[Pairs, Fractions]:
        """Pairs that share a band and are alike in truth, and how much. A document without shingles is like none."""
        found, values = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))], [np.zeros(0)]
        for candidates in self._candidates(bands, is_asked & (np.diff(shingles.offsets) > 0)):
            pairs, similarity = self._verify(shingles, candidates, min_jaccard)
            found.append(pairs)
            values.append(similarity)
        return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True))), np.concatenate(values)

    def _candidates(self, bands: Sequence[Wanted], is_asked: np.ndarray) -> Iterator[Pairs]:
        """Who shares a band with whom, in parts of `BLOCK_PAIRS` at most, or of one document."""
        columns = [self._sorted(BANDS + i) for i in range(len(bands))]
        met = [meet(column, wanted, is_asked) for column, wanted in zip(columns, bands, strict=True)]
        n_pairs = sum(int(meetings.counts.sum()) for meetings in met)
        if n_pairs > BLOCK_PAIRS and np.count_nonzero(is_asked) > 1:
            is_first = np.cumsum(is_asked) <= np.count_nonzero(is_asked) // 2
            yield from self._candidates(bands, is_asked & is_first)
            yield from self._candidates(bands, is_asked & ~is_first)
        elif n_pairs:
            pairs = union(
                [pair_up(column, meetings) for column, meetings in zip(columns, met, strict=True)], self.n_docs
            )
            yield self._present(pairs)

    def _verify(self, shingles: Shingles, pairs: Pairs, min_jaccard: float) -> tuple[Pairs, Fractions]:
        wanted, wanted_at = np.unique(pairs.wanted, return_inverse=True)
        found, found_at = np.unique(pairs.found, return_inverse=True)
        new = as_sets(select(shingles, wanted))
        values = np.zeros(len(pairs.wanted))
        for first in range(0, len(found), BLOCK_SETS):
            mine = np.flatnonzero((found_at >= first) & (found_at < first + BLOCK_SETS))
            old = self._sets(found[first : first + BLOCK_SETS])
            values[mine] = jaccard_between(new, old, Pairs(wanted_at[mine], found_at[mine] - first))
        is_alike = values >= min_jaccard
        return _keep(pairs, is_alike), values[is_alike]

    def _nominate(self, batch: int, keys: Wanted, is_asked: np.ndarray) -> Pairs:
        column = self._sorted(batch)
        return self._present(pair_up(column, meet(column, keys, is_asked)))

    def _present(self, pairs: Pairs) -> Pairs:
        return _keep(pairs, ~np.isin(pairs.found, self._removed)) if len(self._removed) else pairs

    def _left(self, column: SortedKeys) -> SortedKeys:
        is_left = ~np.isin(column.places, self._removed)
        return SortedKeys(column.keys[is_left], column.places[is_left])

    def _sorted(self, batch: int) -> SortedKeys:
        columns = self._keys.get_batch(batch).columns
        return SortedKeys(*(column.to_numpy(zero_copy_only=True) for column in columns))

    def ids_of(self, rows: Rows) -> pa.StringArray:
        """The ids of these rows, in their order."""
        return self._take("id", rows)

    def _sets(self, rows: Rows) -> Shingles:
        return _as_shingles(self._take("shingles", rows))

    def _take(self, column: str, rows: Rows) -> pa.Array:
        """Rows of docs.arrow, batch by batch: only what is asked for is read."""
        once, back = np.unique(rows, return_inverse=True)
        cuts = np.searchsorted(once, self._starts)
        parts = [pa.array([], DOCS.field(column).type)]
        for batch in np.flatnonzero(np.diff(cuts)).tolist():
            mine = once[cuts[batch] : cuts[batch + 1]] - self._starts[batch]
            parts.append(self._docs.get_batch(batch).column(column).take(pa.array(mine)))
        whole = pa.concat_arrays(parts)
        return whole if len(once) == len(rows) and (back == np.arange(len(rows))).all() else whole.take(pa.array(back))

    def repeated_id(self) -> str | None:
        """An id that stands here twice."""
        keys, places = self._sorted(IDS)
        equal = np.flatnonzero(keys[1:] == keys[:-1])
        for left, right in zip(places[equal].tolist(), places[equal + 1].tolist(), strict=True):
            ids: list[str] = self.ids_of(np.array([left, right])).to_pylist()
            if ids[0] == ids[1]:
                return ids[0]
        return None

    def scrub(self) -> None:
        """Overwrites the shingle sets of the rows that are gone: a dictionary could guess the words behind single hashes."""
        batches = np.searchsorted(self._starts, self._removed, side="right") - 1
        rows = zip(batches.tolist(), (self._removed - self._starts[batches]).tolist(), strict=True)
        zero_lists(self.folder / "docs.arrow", "shingles", rows)

    def problems(self, content: str, settings: Settings) -> list[str]:
        """What does not hold: the documents are those that were added, the keys follow from them. 8 bytes a document and key."""
        permuted = minhash.permutations(settings.n_bands * settings.n_rows, settings.seed)
        hashed, columns = Content(), [[np.zeros(0, np.uint64)] for _ in range(settings.n_bands + BANDS)]
        for i in range(self._docs.num_record_batches):
            ids, digests, lists = self._docs.get_batch(i).columns
            hashed.update(ids, digests)
            sets = _as_shingles(lists)
            part = Sketches(ids, digests, sets, minhash.signatures(sets, permuted))
            for column, keys in zip(columns, key_columns(part, settings), strict=True):
                column.append(keys)
        found = [] if hashed.hexdigest() == content else ["docs.arrow holds other documents than were added"]
        for i, column in enumerate(columns):
            right, stored = self._left(sort_keys(np.concatenate(column))), self._left(self._sorted(i))
            if not (np.array_equal(right.keys, stored.keys) and np.array_equal(right.places, stored.places)):
                found.append(f"keys.arrow: column {i} does not follow from the documents")
        return found


def read_run(folder: Path) -> dict[str, Any]:
    """run.json: name, number, content, n_docs, settings, batch_docs."""
    path = folder / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"dedupe.index: {path} can't be read", str(error), "fill the index again") from error


def key_columns(part: Sketches, settings: Settings) -> list[Hashes]:
    """The columns of keys.arrow, not sorted yet: ids, digests, bands."""
    bands = minhash.band_keys(part.signatures, settings.n_bands, settings.n_rows)
    return [id_keys(part.ids), digest_keys(part.digests), *bands.T]


def _as_shingles(lists: pa.LargeListArray) -> Shingles:
    return Shingles(lists.values.to_numpy(), lists.offsets.to_numpy())


def _keep(pairs: Pairs, is_kept: np.ndarray) -> Pairs:
    return Pairs(pairs.wanted[is_kept], pairs.found[is_kept])
