"""Drops documents that say what another document says: exact duplicates first, then near ones.

In: a folder of documents. Out: the documents that stay, in the same order, and `ledger.parquet` with a row for each one
dropped: the similarity, the threshold and the id of the survivor, which is always a document that stays.

Who survives is a rule: the source listed first in `source_priority`, then the longer text, then the smaller id. Two
documents are the same when their texts agree after folding case, compatible letters and white space; they are near when
the true Jaccard similarity of their shingles reaches `min_jaccard` (MinHash and LSH only nominate the pairs).
Settings: Penedo et al. 2024 (FineWeb).

Memory: `memory_mb` for sorting and comparing, and the batch of documents at hand; what is kept of every document lies in
files below the scratch folder (100 bytes, its id twice, 32 a band, 8 a word of candidates). Sketches of shards outlive a
stopped run. Time: one pass to sketch, one over the shards of candidates, one to write; sorting, n log n.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import near_duplicates, repeats
from pipeline.engine import map_files
from pipeline.errors import UserError
from pipeline.near_duplicates import Near
from pipeline.params import Dedupe
from pipeline.progress import Bar
from pipeline.ranking import CHUNK, N_SAMPLE, Corpus, Ranks, first_equal, id_keys, rank_documents
from pipeline.sorted_ledger import LedgerSpool
from pipeline.spool import StringFile, file_array
from pipeline.stage import Metrics
from pipeline.tables import copy_docs, count_docs, read_arrow, read_shard, shard_paths, write_arrow
from pipeline.text import minhash, survivors
from pipeline.text.columns import Rows
from pipeline.text.normalize import fold, split_words, squeeze
from pipeline.text.pieces import Unit
from pipeline.text.shingles import shingle

REASONS = ("exact_duplicate", "near_duplicate")
RARE_REASONS = ("earlier_duplicate", "few_chars_left")  # counted where the feature is in use
SKETCH_PARAMS = {"seed", "ngram_words", "n_bands", "n_rows", "source_priority"}
# Documents that an earlier run's documents stand for: the row in the shard, the earlier document's id, their true Jaccard.
KNOWN = pa.schema([("row", pa.int64()), ("other_id", pa.string()), ("similarity", pa.float64())])


def run(params: Dedupe, *, docs: Path, scratch: Path, out: Path) -> Metrics:
    """Sketch, rank, find copies, find near ones, write."""
    paths = shard_paths(docs)
    if count_docs(docs) == 0:
        raise UserError(f"dedupe: no documents in {docs}", "an empty corpus", "look at download.sources in params.yaml")
    sketches = make_sketches(params, paths, scratch / "sketches")
    folder = scratch / "work"
    shutil.rmtree(folder, ignore_errors=True)  # what a stopped run had sorted; its sketches stay
    folder.mkdir(parents=True)
    corpus = gather(params, sketches, folder)
    ledger = LedgerSpool("dedupe", corpus.ids, folder / "ledger", corpus.memory_bytes)
    drop_known(params, paths, corpus, ledger)
    ranks = rank_documents(corpus)
    exact = first_equal(corpus, ranks)
    near = near_duplicates.find(params, paths, corpus, ranks, exact)
    is_kept = corpus.array("is_kept", np.bool_)
    decide(params, corpus, ranks, exact, near, is_kept, ledger)
    written = write_docs(params, paths, corpus, ranks, is_kept, ledger, scratch, out)
    ledger.write(out, corpus.id_sample)
    return {
        "docs_in": corpus.n_docs,
        "docs_out": sum(int(np.count_nonzero(is_kept[i : i + CHUNK])) for i in range(0, corpus.n_docs, CHUNK)),
        **{f"dropped_{reason}": ledger.counts[reason] for reason in REASONS},
        **{f"dropped_{reason}": n for reason, n in ledger.counts.items() if n and reason in RARE_REASONS},
        "candidate_pairs": near.n_candidates,
        "verified_pairs": near.n_verified,
        "clusters": near.n_clusters,
        "text_bytes_in": corpus.n_text_bytes,
        **written,
    }


def write_docs(
    params: Dedupe,
    paths: Sequence[Path],
    corpus: Corpus,
    ranks: Ranks,
    is_kept: Rows,
    ledger: LedgerSpool,
    scratch: Path,
    out: Path,
) -> Metrics:
    """The documents that stay, without repeated lines and paragraphs where params ask for it."""
    asked = repeats.settings_of(params)
    if not asked:
        return {"text_bytes_out": copy_docs(paths, is_kept, out)}
    repeated: dict[Unit, repeats.Repeated] = {
        unit: repeats.find_repeats(unit, settings, paths, corpus, ranks, is_kept, scratch / unit)
        for unit, settings in asked.items()
    }
    return repeats.copy_without(params, paths, corpus, ranks, is_kept, repeated, ledger, out)


def make_sketches(params: Dedupe, paths: Sequence[Path], results: Path) -> list[Path]:
    """One file a shard; those that a stopped run has finished are found again."""
    settings = f"{minhash.SCHEME} {params.model_dump_json(include=SKETCH_PARAMS)}"
    sketches: list[Path] = []
    with Bar("dedupe", len(paths), "shards") as bar:
        for sketch in map_files(partial(write_sketch, params=params), paths, results=results, settings=settings):
            sketches.append(sketch)
            bar.advance()
    return sketches


def write_sketch(path: Path, result: Path, params: Dedupe) -> None:
    """Everything the decision needs but the text: runs in a worker."""
    permuted = minhash.permutations(params.n_bands * params.n_rows, params.seed)
    keys_type = pa.binary(8 * params.n_bands)
    parts: list[pa.Table] = []
    for batch in read_shard(path, ["id", "text", "source"]):
        folded = fold(batch.column("text"))
        shingles = shingle(split_words(folded), params.ngram_words)
        keys = minhash.band_keys(minhash.signatures(shingles, permuted), params.n_bands, params.n_rows)
        columns = {
            "id": batch.column("id"),
            "priority": survivors.priorities(batch.column("source"), params.source_priority),
            "n_bytes": pc.binary_length(batch.column("text")).cast(pa.int64()),
            "digest": survivors.digests(squeeze(folded)),
            "keys": pa.Array.from_buffers(keys_type, len(keys), [None, pa.py_buffer(keys)]),
            "has_shingles": pa.array(np.diff(shingles.offsets) > 0),
        }
        parts.append(pa.table(columns))
    write_arrow(result, pa.concat_tables(parts) if parts else empty_sketch(keys_type))


def empty_sketch(keys_type: pa.DataType) -> pa.Table:
    """Of a shard without documents."""
    names = ("id", "priority", "n_bytes", "digest", "keys", "has_shingles")
    types = (pa.string(), pa.int64(), pa.int64(), pa.binary(16), keys_type, pa.bool_())
    return pa.schema(list(zip(names, types, strict=True))).empty_table()


def gather(params: Dedupe, sketches: Sequence[Path], folder: Path) -> Corpus:
    """Where each shard begins, all ids, a sample of them, the bytes of text."""
    ids = StringFile(folder / "ids")
    firsts, n_bytes = [0], 0
    for path in sketches:
        table = read_arrow(path, ["id", "n_bytes"])
        ids.append(table.column("id"))
        firsts.append(firsts[-1] + len(table))
        n_bytes += pc.sum(table.column("n_bytes")).as_py() or 0
    sample = id_keys(ids.take(np.arange(0, firsts[-1], -(-firsts[-1] // N_SAMPLE))))
    is_known = file_array(folder / "is_known.bin", np.bool_, firsts[-1])
    return Corpus(sketches, np.array(firsts), ids, is_known, n_bytes, sample, folder, params.memory_mb * 1_000_000)


def duplicates_of_earlier_runs(_params: Dedupe, _shard: Path, _sketch: Path) -> pa.Table:
    """Rows (schema KNOWN) of one shard that repeat what earlier runs have kept. Without an index nothing is known."""
    return KNOWN.empty_table()


def drop_known(params: Dedupe, paths: Sequence[Path], corpus: Corpus, ledger: LedgerSpool) -> None:
    """They take no part in anything that follows: whoever resembles them resembles the earlier document too."""
    for path, sketch, first in zip(paths, corpus.sketches, corpus.firsts.tolist(), strict=False):
        known = duplicates_of_earlier_runs(params, path, sketch)
        places, others = first + known.column("row").to_numpy(), known.column("other_id").combine_chunks()
        corpus.is_known[places] = True
        value = known.column("similarity").to_numpy()
        ledger.add("earlier_duplicate", places, value=value, threshold=params.min_jaccard, other=others)


def decide(
    params: Dedupe, corpus: Corpus, ranks: Ranks, exact: Rows, near: Near, is_kept: Rows, ledger: LedgerSpool
) -> None:
    """Marks who stays, by place; a ledger row for each other. A copy of a near duplicate is near to the same survivor."""
    for first in range(0, corpus.n_docs, CHUNK):
        best = exact[first : first + CHUNK]
        rank = np.arange(first, first + len(best))
        place, survivor = ranks.to_place[rank], near.survivor[best]
        is_new = ~corpus.is_known[place]
        is_kept[place] = (survivor == rank) & is_new
        for reason, threshold, is_dropped in (
            ("exact_duplicate", 1.0, (survivor != rank) & (survivor == best)),
            ("near_duplicate", params.min_jaccard, (survivor != rank) & (survivor != best)),
        ):
            rows = np.flatnonzero(is_dropped & is_new)
            other = ranks.to_place[survivor[rows]]
            ledger.add(reason, place[rows], value=near.similarity[best[rows]], threshold=threshold, other=other)
