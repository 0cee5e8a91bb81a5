"""Remove lines and paragraphs that many documents share (menus, license headers, cookie notices) from all but the best document.

In: shards, and which of their documents are kept. Out: the documents without the repeated pieces; ledger rows for what each
document lost, and for documents with too little text left. Off unless params enable it.

1. Each shard's pieces of `min_chars` or more are hashed, once per document (in `scratch`, so that a stopped run can resume).
2. Hashes of kept documents are assigned to parts by their highest bits; a part is sorted in memory. A piece that occurs in more
   than `max_docs` documents is listed with the best of them, its owner.
3. The documents are read again, and listed pieces are removed from all documents but the owner. Paragraphs first, then lines.

Memory: `memory_mb`. Disk: 16 bytes per piece, twice. Why one copy is kept: CCNet (Wenzek et al. 2020), C4 (Raffel et al. 2020) and
Dolma (Soldaini et al. 2024) keep the first occurrence. Here it is the best document's, so that the order of files does not matter.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dedupe.arrays import append_numbers, count_parts, read_array
from pipeline.dedupe.ledger_writer import LedgerSpool
from pipeline.dedupe.minhash.pieces import Unit, cut_pieces, hash_pieces, remove_pieces
from pipeline.dedupe.params import Dedupe, Repeats
from pipeline.dedupe.ranking import Corpus, Decisions, Ranks, assign_parts, select_equal_neighbors
from pipeline.frame.metrics import Metrics
from pipeline.storage.arrow import read_arrow, write_arrow
from pipeline.storage.tables import ShardWriter, flag_search_only, read_shard
from pipeline.text.columns import Hashes, Rows
from pipeline.workers.results import map_files

UNITS: tuple[Unit, ...] = ("paragraphs", "lines")
LOST = ("removed", "chars_removed")
BY_PIECE = np.dtype([("piece", "<u8"), ("rank", "<i8")])
HELD = pa.schema([("row", pa.int64()), ("piece", pa.uint64())])


class Repeated(NamedTuple):
    """Hold the hashes of repeated pieces in ascending order, and the rank of the document that keeps each; both are in files."""

    pieces: Hashes
    owners: Rows

    def is_elsewhere(self, pieces: Hashes, ranks: Rows) -> npt.NDArray[np.bool_]:
        """Return which of these pieces, each in the document of the given rank, are kept by another document."""
        if len(self.pieces) == 0:
            return np.zeros(len(pieces), bool)
        at = np.minimum(np.searchsorted(self.pieces, pieces), len(self.pieces) - 1)
        return (self.pieces[at] == pieces) & (self.owners[at] != ranks)


def get_repeat_settings(params: Dedupe) -> dict[Unit, Repeats]:
    """Return the settings of the enabled units, in the order in which they are applied."""
    given = {"paragraphs": params.paragraphs, "lines": params.lines}
    return {unit: settings for unit in UNITS if (settings := given[unit]) is not None}


def find_repeats(
    unit: Unit, settings: Repeats, paths: Sequence[Path], corpus: Corpus, ranks: Ranks, is_kept: Rows, scratch: Path
) -> Repeated:
    """Return the pieces that occur in more than `max_docs` of the kept documents."""
    write = partial(write_pieces, unit=unit, min_chars=settings.min_chars)
    held = list(map_files(write, paths, results=scratch, settings=f"{unit} {settings.min_chars}"))
    n_bytes = sum(path.stat().st_size for path in held)
    n_parts = count_parts(n_bytes, corpus.memory_bytes)
    spool = corpus.make_spool(f"{unit}_by_hash", BY_PIECE, n_parts)
    for path, (first, stop) in zip(held, pairwise(corpus.firsts.tolist()), strict=True):
        table = read_arrow(path)
        row, piece = (table.column(name).to_numpy() for name in HELD.names)
        is_mine = is_kept[first:stop][row].astype(bool)
        records = np.empty(int(np.count_nonzero(is_mine)), BY_PIECE)
        records["piece"], records["rank"] = piece[is_mine], ranks.of_position[first:stop][row[is_mine]]
        spool.write(records, assign_parts(records["piece"], n_parts))
    names = [corpus.folder / f"{unit}_{name}.bin" for name in Repeated._fields]
    with names[0].open("wb") as pieces, names[1].open("wb") as owners:
        for part in range(n_parts):
            records = select_equal_neighbors(spool.drain(part), "piece")
            records = records[np.lexsort((records["rank"], records["piece"]))]
            starts = np.flatnonzero(np.append(True, np.diff(records["piece"]) != 0)[: len(records)])
            first_of = records[starts[np.diff(starts, append=len(records)) > settings.max_docs]]
            append_numbers(pieces, first_of["piece"])
            append_numbers(owners, first_of["rank"])
    return Repeated(read_array(names[0], np.uint64), read_array(names[1], np.int64))


def write_pieces(path: Path, result: Path, unit: Unit, min_chars: int) -> None:
    """Write the pieces of one shard that are long enough, each once per document; runs in a worker."""
    parts, first = [HELD.empty_table()], 0
    for batch in read_shard(path, ["text"]):
        pieces = cut_pieces(batch.column("text"), unit)
        hashes, n_chars = hash_pieces(batch.column("text"), pieces)
        is_long = n_chars >= min_chars
        records = np.empty(int(np.count_nonzero(is_long)), BY_PIECE)
        records["rank"], records["piece"] = pieces.list_rows()[is_long] + first, hashes[is_long]
        records = np.unique(records)
        parts.append(pa.table({"row": records["rank"], "piece": records["piece"]}, schema=HELD))
        first += batch.num_rows
    write_arrow(result, pa.concat_tables(parts).combine_chunks())


class Rewritten(NamedTuple):
    """Hold one batch without its repeated pieces, and the numbers of pieces and characters that each row has lost, by unit."""

    texts: pa.StringArray
    lost: Mapping[Unit, tuple[Rows, Rows]]


def rewrite(
    texts: pa.StringArray,
    rank: Rows,
    is_training: npt.NDArray[np.bool_],
    repeated: Mapping[Unit, Repeated],
    settings: Mapping[Unit, Repeats],
) -> Rewritten:
    """Remove repeated pieces from a batch; `rank` is the rank of each row. Documents for search only stay whole."""
    lost: dict[Unit, tuple[Rows, Rows]] = {}
    for unit, listed in repeated.items():
        pieces = cut_pieces(texts, unit)
        hashes, n_chars = hash_pieces(texts, pieces)
        rows = pieces.list_rows()
        is_removed = (n_chars >= settings[unit].min_chars) & listed.is_elsewhere(hashes, rank[rows]) & is_training[rows]
        before, texts = pc.utf8_length(texts), remove_pieces(texts, pieces, is_removed)
        n_removed = np.bincount(rows[is_removed], minlength=len(rank))
        lost[unit] = n_removed, pc.subtract(before, pc.utf8_length(texts)).cast(pa.int64()).to_numpy()
    return Rewritten(texts, lost)


def copy_without_repeats(
    params: Dedupe,
    paths: Sequence[Path],
    corpus: Corpus,
    ranks: Ranks,
    decisions: Decisions,
    repeated: Mapping[Unit, Repeated],
    ledger: LedgerSpool,
    out: Path,
) -> Metrics:
    """Write the kept documents that still have enough text; the others are no longer kept. Return the metrics."""
    settings, totals = (
        get_repeat_settings(params),
        Counter[str](text_bytes_out=0, docs_changed=0, dropped_few_chars_left=0),
    )
    totals.update({f"{unit}_{what}": 0 for unit in settings for what in LOST})
    with ShardWriter(out) as writer:
        for position, batch in read_kept_batches(paths, decisions):
            is_training = ~batch.column("is_search_only").to_numpy(zero_copy_only=False).astype(bool)
            rewritten = rewrite(batch.column("text"), ranks.of_position[position], is_training, repeated, settings)
            n_chars = pc.utf8_length(pc.utf8_trim_whitespace(rewritten.texts)).to_numpy().astype(np.float64)
            is_changed = np.logical_or.reduce([n > 0 for n, _ in rewritten.lost.values()])
            is_left = ~(is_changed & (n_chars < params.min_chars_left))
            few = np.flatnonzero(~is_left)
            decisions.is_kept[position[few]] = False
            totals["dropped_few_chars_left"] += len(few)
            ledger.add("few_chars_left", position[few], value=n_chars[few], threshold=params.min_chars_left)
            for unit, lost in rewritten.lost.items():
                rows = np.flatnonzero((lost[0] > 0) & is_left)
                for what, n in zip(LOST, lost, strict=True):
                    value, limit = n[rows].astype(np.float64), settings[unit].max_docs
                    ledger.add(f"{unit}_{what}", position[rows], value=value, threshold=limit, decision="changed")
                    totals[f"{unit}_{what}"] += int(n[rows].sum())
            kept = batch.set_column(batch.schema.get_field_index("text"), "text", rewritten.texts).filter(
                pa.array(is_left)
            )
            totals["docs_changed"] += int(np.count_nonzero(is_changed & is_left))
            totals["text_bytes_out"] += pc.sum(pc.binary_length(kept.column("text"))).as_py() or 0
            writer.write(kept)
    return {**totals}


def read_kept_batches(paths: Sequence[Path], decisions: Decisions) -> Iterator[tuple[Rows, pa.RecordBatch]]:
    """Yield (positions, documents) of the kept documents, batch by batch, flagged if they are for search only."""
    first = 0
    for path in paths:
        for batch in read_shard(path):
            stop = first + batch.num_rows
            is_mine = decisions.is_kept[first:stop].astype(bool)
            if is_mine.any():
                flagged = flag_search_only(batch, decisions.is_search_only[first:stop])
                yield first + np.flatnonzero(is_mine), flagged.filter(pa.array(is_mine))
            first = stop
