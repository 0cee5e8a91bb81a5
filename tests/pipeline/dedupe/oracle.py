"""Deduplicate columns in memory: the decisions that `pipeline/dedupe/stage.py` must make with any amount of memory.

In: columns of ids, texts and sources. Out: the order of the documents, best first, and for each rank its survivor. For corpora of
at most a tenth of the memory, in tests and measurements: 16 bytes per document and band, 8 per word. Steps and sources: `shingles`,
`signatures`, `survivors`, `clusters`.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dedupe.minhash import clusters, survivors
from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash.clusters import NearDecisions, Verified
from pipeline.dedupe.minhash.shingles import Shingles, make_sets, select_rows, shingle
from pipeline.text.columns import Rows
from pipeline.text.normalize import fold, split_words, squeeze


class Deduplicated(NamedTuple):
    """Hold the result. `order[rank]` is a document's row; all else is by rank: best one with the same text, verified pairs,
    decisions."""

    order: Rows
    exact: Rows
    pairs: Verified
    near: NearDecisions

    def list_kept_rows(self) -> Rows:
        """Return the rows of the surviving documents, ascending."""
        return np.sort(self.order[self.near.survivor[self.exact] == np.arange(len(self.order))])


def deduplicate(
    docs: pa.Table,
    *,
    source_priority: Sequence[str],
    ngram_words: int,
    n_bands: int,
    n_rows: int,
    seed: int,
    min_jaccard: float,
) -> Deduplicated:
    """Deduplicate `docs` with the columns id, text, source; the settings are those of `dedupe` in params.yaml."""
    ids, texts, sources = (docs.column(name).combine_chunks() for name in ("id", "text", "source"))
    folded = fold(texts)
    shingles = shingle(split_words(folded), ngram_words)
    signed = minhash.compute_signatures(shingles, minhash.draw_permutations(n_bands * n_rows, seed))
    priority = survivors.compute_priorities(sources, source_priority)
    n_bytes = pc.binary_length(texts).cast(pa.int64())
    order = survivors.order_documents(pa.table({"id": ids, "priority": priority, "n_bytes": n_bytes}))
    exact = survivors.find_first_equal(survivors.compute_digests(squeeze(folded)).take(pa.array(order)))
    is_eligible = (np.diff(shingles.offsets)[order] > 0) & (exact == np.arange(len(exact)))
    keys = minhash.compute_band_keys(signed, n_bands, n_rows)[order]
    buckets = clusters.group_equal(keys, is_eligible)
    sets = _make_rank_sets(np.unique(buckets.members), order, shingles)
    pairs = clusters.verify(buckets, sets, min_jaccard)
    return Deduplicated(order, exact, pairs, clusters.decide_survivors(len(exact), pairs, sets, min_jaccard))


def _make_rank_sets(ranks: Rows, order: Rows, shingles: Shingles) -> Shingles:
    """Return one row per rank: the sets of these ranks, empty for the others."""
    found = make_sets(select_rows(shingles, order[ranks]))
    sizes = np.zeros(len(order) + 1, np.int64)
    sizes[ranks + 1] = np.diff(found.offsets)
    return Shingles(found.hashes, np.cumsum(sizes))
