"""Drop duplicate documents: exact duplicates first, then near duplicates.

In: a folder of documents. Out: the surviving documents, in the same order, and `ledger.parquet` with a row for each dropped
document: the similarity, the threshold and the id of the survivor, which is always a document that is kept. Lines and paragraphs
that many documents share are removed if params enable it (`repeats.py`), with rows for what each document lost.

The survivor is the document whose source is listed first in `source_priority`, then the longer text, then the smaller id. Two
documents are exact duplicates if their texts agree after folding case, compatibility characters and white space, and without
invisible characters such as soft hyphens (minhash/visible.py); they are near duplicates if the true Jaccard similarity of their
shingles reaches `min_jaccard` (MinHash and LSH only nominate the pairs). Settings: Penedo et al. 2024 (FineWeb).

Memory: `memory_mb` for sorting and comparing, and the current batch of documents; per-document state is in files below the scratch
folder (100 bytes, the id twice, 32 bytes per band, 16 per word of candidates). Sketches of shards survive a stopped run. Time: one
pass to sketch, one over the shards with candidates, one to write; sorting is n log n.
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
from pipeline.dedupe.ranking import CHUNK, Corpus, Ranks, find_first_equal, rank_documents
from pipeline.dedupe.seen.lookup import drop_known
from pipeline.dedupe.sketches import gather_corpus, make_sketches
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import copy_docs, count_docs, list_shards
from pipeline.text.columns import Rows

REASONS = ("exact_duplicate", "near_duplicate")


def run(params: Dedupe, *, docs: Path, scratch: Path, out: Path) -> Metrics:
    """Sketch and rank the documents, find exact and near duplicates, write the survivors and return the metrics."""
    paths = list_shards(docs)
    if count_docs(docs) == 0:
        raise UserError(f"dedupe: no documents in {docs}", "an empty corpus", "check download.sources in params.yaml")
    sketches = make_sketches(params, paths, scratch / "sketches")
    folder = scratch / "work"
    shutil.rmtree(folder, ignore_errors=True)  # intermediate files of a stopped run; its sketches are kept
    folder.mkdir(parents=True)
    corpus = gather_corpus(params, sketches, folder)
    ledger = LedgerSpool("dedupe", corpus.ids, folder / "ledger", corpus.memory_bytes)
    known = drop_known(params, paths, corpus, ledger, scratch, out)
    ranks = rank_documents(corpus)
    exact = find_first_equal(corpus, ranks)
    near = near_duplicates.find_near_duplicates(params, paths, corpus, ranks, exact, scratch / "sets")
    is_kept = corpus.make_array("is_kept", np.bool_)
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
    """Write the surviving documents, without repeated lines and paragraphs if params enable that. Return the metrics."""
    units = repeats.get_repeat_settings(params)
    if not units:
        return {"text_bytes_out": copy_docs(paths, is_kept, out)}
    repeated: dict[Unit, repeats.Repeated] = {
        unit: repeats.find_repeats(unit, settings, paths, corpus, ranks, is_kept, scratch / unit)
        for unit, settings in units.items()
    }
    return repeats.copy_without_repeats(params, paths, corpus, ranks, is_kept, repeated, ledger, out)


def decide(
    params: Dedupe, corpus: Corpus, ranks: Ranks, exact: Rows, near: Near, is_kept: Rows, ledger: LedgerSpool
) -> None:
    """Flag the survivors in `is_kept`, by position, and add a ledger row for every other document. An exact duplicate of a near
    duplicate counts as a near duplicate of the same survivor."""
    for first in range(0, corpus.n_docs, CHUNK):
        best = exact[first : first + CHUNK]
        rank = np.arange(first, first + len(best))
        position, survivor = ranks.to_position[rank], near.survivor[best]
        is_new = ~corpus.is_known[position]
        is_kept[position] = (survivor == rank) & is_new
        for reason, threshold, is_dropped in (
            ("exact_duplicate", 1.0, (survivor != rank) & (survivor == best)),
            ("near_duplicate", params.min_jaccard, (survivor != rank) & (survivor != best)),
        ):
            rows = np.flatnonzero(is_dropped & is_new)
            other = ranks.to_position[survivor[rows]]
            ledger.add(reason, position[rows], value=near.similarity[best[rows]], threshold=threshold, other=other)
