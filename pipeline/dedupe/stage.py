"""Drop duplicate documents: exact duplicates first, then near duplicates.

In: a folder of documents. Out: the surviving documents, in the same order, and `ledger.parquet` with a row for each dropped
document: the similarity, the threshold and the id of the survivor, which is always a document that is kept. Lines and paragraphs
that many documents share are removed if params enable it (`repeats.py`), with rows for what each document lost.

Deduplication is for training text; the index needs every public name (`json.dumps` besides `json.dump`). So a duplicate from
`search_sources` that has another title than its survivor is kept with the flag `is_search_only`, and a ledger row says so.
Documents that arrive with the flag never replace others, and what happens to the others does not depend on them.

The survivor is the document whose source is listed first in `source_priority`, then the longer text, then the smaller id. Two
documents are exact duplicates if their texts agree after folding case, compatibility characters and white space, and without
invisible characters such as soft hyphens (minhash/visible.py); they are near duplicates if the true Jaccard similarity of their
shingles reaches `min_jaccard` (MinHash and LSH only nominate the pairs). Settings: Penedo et al. 2024 (FineWeb).

Memory: `memory_mb` for sorting and comparing, and the current batch of documents; per-document state is in files below the scratch
folder (100 bytes, the id twice, 32 bytes per band, 16 per word of candidates). Sketches of shards survive a stopped run. Time: one
pass to sketch, one over the shards with candidates, one to write; sorting is n log n.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from pipeline.dedupe import near_duplicates, repeats
from pipeline.dedupe.ledger_writer import LedgerSpool
from pipeline.dedupe.minhash.pieces import Unit
from pipeline.dedupe.near_duplicates import Near
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.ranking import CHUNK, Corpus, Decisions, Ranks, find_first_equal, rank_documents
from pipeline.dedupe.seen.lookup import drop_known
from pipeline.dedupe.sketches import gather_corpus, make_sketches
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import ShardWriter, count_docs, list_shards
from pipeline.text.columns import Hashes, Rows

REASONS = ("exact_duplicate", "near_duplicate")
SEARCH_ONLY = "search_only"


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
    decisions = Decisions(*(corpus.make_array(name, np.bool_) for name in Decisions._fields))
    decide(params, corpus, ranks, exact, near, decisions, ledger)
    written = write_docs(params, paths, corpus, ranks, decisions, ledger, scratch, out)
    ledger.write(out)
    return {
        "docs_in": corpus.n_docs,
        "docs_out": _count(decisions.is_kept),
        "search_only_docs": _count(decisions.is_search_only & decisions.is_kept),
        **{f"dropped_{reason}": ledger.counts[reason] for reason in REASONS},
        f"changed_{SEARCH_ONLY}_docs": ledger.counts[SEARCH_ONLY],
        **known,
        "candidate_pairs": near.n_candidates,
        "verified_pairs": near.n_verified,
        "clusters": near.n_clusters,
        "text_bytes_in": corpus.n_text_bytes,
        **written,
    }


def _count(flags: npt.NDArray[Any]) -> int:
    return sum(int(np.count_nonzero(flags[i : i + CHUNK])) for i in range(0, len(flags), CHUNK))


def write_docs(
    params: Dedupe,
    paths: Sequence[Path],
    corpus: Corpus,
    ranks: Ranks,
    decisions: Decisions,
    ledger: LedgerSpool,
    scratch: Path,
    out: Path,
) -> Metrics:
    """Write the surviving documents, without repeated lines and paragraphs if params enable that. Return the metrics."""
    units = repeats.get_repeat_settings(params)
    if not units:
        return copy_docs(paths, decisions, out)
    is_training: npt.NDArray[Any] = decisions.is_kept & ~decisions.is_search_only
    repeated: dict[Unit, repeats.Repeated] = {
        unit: repeats.find_repeats(unit, settings, paths, corpus, ranks, is_training, scratch / unit)
        for unit, settings in units.items()
    }
    return repeats.copy_without_repeats(params, paths, corpus, ranks, decisions, repeated, ledger, out)


def copy_docs(paths: Sequence[Path], decisions: Decisions, out: Path) -> Metrics:
    """Write the documents that are kept, in order. Return their bytes of text."""
    n_bytes = 0
    with ShardWriter(out) as writer:
        for _, batch in repeats.read_kept_batches(paths, decisions):
            n_bytes += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
            writer.write(batch)
    return {"text_bytes_out": n_bytes}


def decide(
    params: Dedupe, corpus: Corpus, ranks: Ranks, exact: Rows, near: Near, decisions: Decisions, ledger: LedgerSpool
) -> None:
    """Record by position which documents are kept, and which of these for search only, and add a ledger row for every document
    but the survivors. An exact duplicate of a near duplicate counts as a near duplicate of the same survivor."""
    title, was_flagged = read_titles(corpus)
    for first in range(0, corpus.n_docs, CHUNK):
        best = exact[first : first + CHUNK]
        rank = np.arange(first, first + len(best))
        position, survivor = ranks.to_position[rank], near.survivor[best]
        other = ranks.to_position[survivor]
        is_new, is_survivor = ~corpus.is_known[position], survivor == rank
        is_named = ~is_survivor & is_new & (title[position] != 0) & (title[position] != title[other])
        decisions.is_kept[position] = (is_survivor & is_new) | is_named
        decisions.is_search_only[position] = decisions.is_kept[position] & (is_named | was_flagged[position])
        for reason, threshold, mask in (
            ("exact_duplicate", 1.0, ~is_survivor & (survivor == best) & ~is_named),
            ("near_duplicate", params.min_jaccard, ~is_survivor & (survivor != best) & ~is_named),
            (SEARCH_ONLY, params.min_jaccard, is_named & ~was_flagged[position]),
        ):
            rows = np.flatnonzero(mask & is_new)
            decision = "changed" if reason == SEARCH_ONLY else "dropped"
            value = near.similarity[best[rows]]
            ledger.add(reason, position[rows], value=value, threshold=threshold, other=other[rows], decision=decision)


def read_titles(corpus: Corpus) -> tuple[Hashes, Rows]:
    """Return by position a hash of the title (0: its duplicates are not kept), and whether the document was for search only."""
    title, was_flagged = corpus.make_array("title", np.uint64), corpus.make_array("was_flagged", np.bool_)
    for first, table in corpus.read_tables(["title", "is_search_only"]):
        title[first : first + len(table)] = table.column("title").to_numpy()
        was_flagged[first : first + len(table)] = table.column("is_search_only").to_numpy(zero_copy_only=False)
    return title, was_flagged
