"""Drops documents that say what another document says: exact duplicates first, then near ones.

In: a folder of documents. Out: the documents that stay, in the same order, and `ledger.parquet` with a row for each one
dropped: the similarity, the threshold and the id of the survivor, which is always a document that stays. Lines and paragraphs
that many of them share are taken out if params ask for it (`pipeline/dedupe/repeats.py`), with rows for what each document lost.

Who survives is a rule: the source listed first in `source_priority`, then the longer text, then the smaller id. Two
documents are the same when their texts agree after folding case, compatible letters and white space; they are near when
the true Jaccard similarity of their shingles reaches `min_jaccard` (MinHash and LSH only nominate the pairs).
Settings: Penedo et al. 2024 (FineWeb).

Memory: `memory_mb` for sorting and comparing, and the batch of documents at hand; what is kept of every document lies in
files below the scratch folder (100 bytes, its id twice, 32 a band, 16 a word of candidates). Sketches of shards outlive a
stopped run. Time: one pass to sketch, one over the shards of candidates, one to write; sorting, n log n.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.dedupe import near_duplicates, repeats
from pipeline.dedupe.ledger_writer import LedgerSpool
from pipeline.dedupe.minhash.pieces import Unit
from pipeline.dedupe.near_duplicates import Near
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.ranking import CHUNK, Corpus, Ranks, first_equal, rank_documents
from pipeline.dedupe.seen.lookup import drop_known
from pipeline.dedupe.sketches import gather, make_sketches
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import copy_docs, count_docs, shard_paths
from pipeline.text.columns import Rows

REASONS = ("exact_duplicate", "near_duplicate")


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
    known = drop_known(params, paths, corpus, ledger, scratch, out)
    ranks = rank_documents(corpus)
    exact = first_equal(corpus, ranks)
    near = near_duplicates.find(params, paths, corpus, ranks, exact, scratch / "sets")
    is_kept = corpus.array("is_kept", np.bool_)
    decide(params, corpus, ranks, exact, near, is_kept, ledger)
    written = write_docs(params, paths, corpus, ranks, is_kept, ledger, scratch, out)
    ledger.write(out)
    return {
        "docs_in": corpus.n_docs,
        "docs_out": sum(int(np.count_nonzero(is_kept[i : i + CHUNK])) for i in range(0, corpus.n_docs, CHUNK)),
        **{f"dropped_{reason}": ledger.counts[reason] for reason in REASONS},
        **known,
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
