"""Map one run of a folder index and look up ids, texts and similar shingle sets in it.

In: columns of new documents, and which of their rows to look up. Out: verified pairs of rows: a key nominates; the id, the digest
or the true Jaccard decides. Memory: the sets of one block of candidates (`BLOCK_SETS`) and 16 bytes per pair of rows that share
a band (`BLOCK_PAIRS` at a time, or all pairs of one document). For the method's source see `minhash/signatures.py`.
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
    compute_jaccard_between,
    find_meetings,
    make_digest_keys,
    make_id_keys,
    merge_pairs,
    pair_up,
    sort_keys,
    view_digests,
)
from pipeline.dedupe.minhash.shingles import Shingles, make_sets, select_rows
from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.seen.runs import ContentHash, Settings
from pipeline.frame.errors import UserError
from pipeline.storage.arrow import map_batches, zero_lists
from pipeline.text.columns import Fractions, Hashes, Rows

DOCS = pa.schema([("id", pa.string()), ("digest", pa.binary(16)), ("shingles", pa.large_list(pa.uint64()))])
KEYS = pa.schema([("key", pa.uint64()), ("row", pa.uint32())])
IDS, DIGESTS, BANDS = 0, 1, 2  # record batches of keys.arrow
BLOCK_SETS = 4_096
BLOCK_PAIRS = 4_000_000


class MappedRun:
    """Look up documents in one run; rows in `removed` count as deleted."""

    def __init__(self, folder: Path, removed: Mapping[int, str]) -> None:
        run = read_run(folder)
        self.folder, self.n_docs = folder, int(run["n_docs"])
        self._starts = np.cumsum([0, *run["batch_docs"]])
        self._removed = np.array(sorted(removed), np.int64)
        self._keys = map_batches(folder / "keys.arrow")

    @cached_property
    def _docs(self) -> pa.RecordBatchFileReader:
        return map_batches(self.folder / "docs.arrow")  # lazily: most lookups need only the keys

    def match_ids(self, ids: pa.StringArray, keys: Wanted, is_queried: np.ndarray) -> Pairs:
        """Return the pairs with the same id."""
        pairs = self._nominate(IDS, keys, is_queried)
        here, there = ids.take(pa.array(pairs.wanted)), self.get_ids(pairs.found)
        return _keep(pairs, np.array([a == b for a, b in zip(here.to_pylist(), there.to_pylist(), strict=True)], bool))

    def match_digests(self, digests: pa.FixedSizeBinaryArray, keys: Wanted, is_queried: np.ndarray) -> Pairs:
        """Return the pairs with the same normalized text."""
        pairs = self._nominate(DIGESTS, keys, is_queried)
        there = view_digests(self._take("digest", pairs.found))
        return _keep(pairs, (view_digests(digests)[pairs.wanted] == there).all(axis=1))

    def match_sets(
        self, shingles: Shingles, bands: Sequence[Wanted], is_queried: np.ndarray, min_jaccard: float
    ) -> tuple[Pairs, Fractions]:
        """Return the pairs that share a band and reach `min_jaccard`, and their similarity. A document without shingles is similar
        to none."""
        verified, values = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))], [np.zeros(0)]
        for candidates in self._find_candidates(bands, is_queried & (np.diff(shingles.offsets) > 0)):
            pairs, similarity = self._verify(shingles, candidates, min_jaccard)
            verified.append(pairs)
            values.append(similarity)
        return Pairs(*(np.concatenate(column) for column in zip(*verified, strict=True))), np.concatenate(values)

    def _find_candidates(self, bands: Sequence[Wanted], is_queried: np.ndarray) -> Iterator[Pairs]:
        """Yield the pairs that share a band, in parts of at most `BLOCK_PAIRS`, or of one document."""
        columns = [self._read_keys(BANDS + i) for i in range(len(bands))]
        met = [find_meetings(column, wanted, is_queried) for column, wanted in zip(columns, bands, strict=True)]
        n_pairs = sum(int(meetings.counts.sum()) for meetings in met)
        if n_pairs > BLOCK_PAIRS and np.count_nonzero(is_queried) > 1:
            is_first = np.cumsum(is_queried) <= np.count_nonzero(is_queried) // 2
            yield from self._find_candidates(bands, is_queried & is_first)
            yield from self._find_candidates(bands, is_queried & ~is_first)
        elif n_pairs:
            pairs = merge_pairs(
                [pair_up(column, meetings) for column, meetings in zip(columns, met, strict=True)], self.n_docs
            )
            yield self._drop_removed(pairs)

    def _verify(self, shingles: Shingles, pairs: Pairs, min_jaccard: float) -> tuple[Pairs, Fractions]:
        wanted, wanted_at = np.unique(pairs.wanted, return_inverse=True)
        found, found_at = np.unique(pairs.found, return_inverse=True)
        new = make_sets(select_rows(shingles, wanted))
        values = np.zeros(len(pairs.wanted))
        for first in range(0, len(found), BLOCK_SETS):
            mine = np.flatnonzero((found_at >= first) & (found_at < first + BLOCK_SETS))
            old = self._read_sets(found[first : first + BLOCK_SETS])
            values[mine] = compute_jaccard_between(new, old, Pairs(wanted_at[mine], found_at[mine] - first))
        is_similar = values >= min_jaccard
        return _keep(pairs, is_similar), values[is_similar]

    def _nominate(self, batch: int, keys: Wanted, is_queried: np.ndarray) -> Pairs:
        column = self._read_keys(batch)
        return self._drop_removed(pair_up(column, find_meetings(column, keys, is_queried)))

    def _drop_removed(self, pairs: Pairs) -> Pairs:
        return _keep(pairs, ~np.isin(pairs.found, self._removed)) if len(self._removed) else pairs

    def _drop_removed_keys(self, column: SortedKeys) -> SortedKeys:
        is_left = ~np.isin(column.rows, self._removed)
        return SortedKeys(column.keys[is_left], column.rows[is_left])

    def _read_keys(self, batch: int) -> SortedKeys:
        columns = self._keys.get_batch(batch).columns
        return SortedKeys(*(column.to_numpy(zero_copy_only=True) for column in columns))

    def get_ids(self, rows: Rows) -> pa.StringArray:
        """Return the ids of these rows, in their order."""
        return self._take("id", rows)

    def _read_sets(self, rows: Rows) -> Shingles:
        return _view_shingles(self._take("shingles", rows))

    def _take(self, column: str, rows: Rows) -> pa.Array:
        """Return rows of one column of docs.arrow; only the batches that contain them are read."""
        once, back = np.unique(rows, return_inverse=True)
        cuts = np.searchsorted(once, self._starts)
        parts = [pa.array([], DOCS.field(column).type)]
        for batch in np.flatnonzero(np.diff(cuts)).tolist():
            mine = once[cuts[batch] : cuts[batch + 1]] - self._starts[batch]
            parts.append(self._docs.get_batch(batch).column(column).take(pa.array(mine)))
        whole = pa.concat_arrays(parts)
        return whole if len(once) == len(rows) and (back == np.arange(len(rows))).all() else whole.take(pa.array(back))

    def find_repeated_id(self) -> str | None:
        """Return an id that occurs twice in this run, or None."""
        keys, places = self._read_keys(IDS)
        equal = np.flatnonzero(keys[1:] == keys[:-1])
        for left, right in zip(places[equal].tolist(), places[equal + 1].tolist(), strict=True):
            ids: list[str] = self.get_ids(np.array([left, right])).to_pylist()
            if ids[0] == ids[1]:
                return ids[0]
        return None

    def scrub(self) -> None:
        """Overwrite the shingle sets of removed rows: the words behind single hashes could be guessed with a dictionary."""
        batches = np.searchsorted(self._starts, self._removed, side="right") - 1
        rows = zip(batches.tolist(), (self._removed - self._starts[batches]).tolist(), strict=True)
        zero_lists(self.folder / "docs.arrow", "shingles", rows)

    def find_problems(self, content: str, settings: Settings) -> list[str]:
        """Return a list of problems: documents other than those added, or keys that do not follow from them. Memory: 8 bytes per
        document and key."""
        permuted = minhash.draw_permutations(settings.n_bands * settings.n_rows, settings.seed)
        hashed, columns = ContentHash(), [[np.zeros(0, np.uint64)] for _ in range(settings.n_bands + BANDS)]
        for i in range(self._docs.num_record_batches):
            ids, digests, lists = self._docs.get_batch(i).columns
            hashed.update(ids, digests)
            sets = _view_shingles(lists)
            part = Sketches(ids, digests, sets, minhash.compute_signatures(sets, permuted))
            for column, keys in zip(columns, make_key_columns(part, settings), strict=True):
                column.append(keys)
        problems = [] if hashed.hexdigest() == content else ["docs.arrow contains other documents than were added"]
        for i, column in enumerate(columns):
            right, stored = (
                self._drop_removed_keys(sort_keys(np.concatenate(column))),
                self._drop_removed_keys(self._read_keys(i)),
            )
            if not (np.array_equal(right.keys, stored.keys) and np.array_equal(right.rows, stored.rows)):
                problems.append(f"keys.arrow: column {i} does not follow from the documents")
        return problems


def read_run(folder: Path) -> dict[str, Any]:
    """Return the content of run.json: name, number, content, n_docs, settings, batch_docs."""
    path = folder / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"dedupe.index: {path} can't be read", str(error), "fill the index again") from error


def make_key_columns(part: Sketches, settings: Settings) -> list[Hashes]:
    """Return the columns of keys.arrow, not sorted yet: ids, digests, bands."""
    bands = minhash.compute_band_keys(part.signatures, settings.n_bands, settings.n_rows)
    return [make_id_keys(part.ids), make_digest_keys(part.digests), *bands.T]


def _view_shingles(lists: pa.LargeListArray) -> Shingles:
    return Shingles(lists.values.to_numpy(), lists.offsets.to_numpy())


def _keep(pairs: Pairs, is_kept: np.ndarray) -> Pairs:
    return Pairs(pairs.wanted[is_kept], pairs.found[is_kept])
