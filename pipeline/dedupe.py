"""Drops documents that say what another document says: exact duplicates first, then near ones.

In: a folder of documents. Out: the documents that stay, in the same order, and `ledger.parquet` with a row for each one
dropped: the similarity, the threshold and the id of the survivor, which is always a document that stays.

Who survives is a rule: the source listed first in `source_priority`, then the longer text, then the smaller id. Two
documents are the same when their texts agree after folding case, compatible letters and white space; they are near when
the true Jaccard similarity of their shingles reaches `min_jaccard` (MinHash and LSH only nominate the pairs).
Settings: Penedo et al. 2024 (FineWeb). Memory: per document its id, 16 bytes and 8 a band; the shingles of candidates.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine import map_shards
from pipeline.errors import UserError
from pipeline.params import Dedupe
from pipeline.progress import Bar
from pipeline.stage import Metrics
from pipeline.tables import copy_docs, count_docs, dropped_rows, read_shard, shard_paths, write_ledger
from pipeline.text import clusters, minhash, survivors
from pipeline.text.columns import Hashes, Rows
from pipeline.text.normalize import fold, split_words, squeeze
from pipeline.text.shingles import Shingles, as_sets, join, select, shingle

# Shards that this process does itself: starting workers takes as long, and they find the kernels compiled.
N_HERE = 6

EMPTY = pa.schema(
    [("id", pa.string()), ("priority", pa.int64()), ("n_bytes", pa.int64()), ("digest", pa.binary(16))]
).empty_table()


class Sketch(NamedTuple):
    """What one shard tells about its documents: id, priority, n_bytes, digest; LSH keys; who has shingles at all."""

    docs: pa.Table
    keys: Hashes
    has_shingles: np.ndarray


def run(params: Dedupe, *, docs: Path, out: Path) -> Metrics:
    """One pass to sketch, one over the candidates to verify, one to write."""
    paths = shard_paths(docs)
    if count_docs(docs) == 0:
        raise UserError(f"dedupe: no documents in {docs}", "an empty corpus", "look at download.sources in params.yaml")
    sketch = partial(sketch_shard, params=params)
    sketches: list[Sketch] = []
    with Bar("dedupe", len(paths), "shards") as bar:
        for done in chain(map(sketch, paths[:N_HERE]), map_shards(sketch, paths[N_HERE:])):
            sketches.append(done)
            bar.advance()
    table = pa.concat_tables([sketch.docs for sketch in sketches])
    best_first = survivors.order(table)  # from here on a document's number is its rank: 0 is the best
    exact = survivors.first_equal(table.column("digest").take(best_first))
    keys = np.concatenate([sketch.keys for sketch in sketches])[best_first]
    has_shingles = np.concatenate([sketch.has_shingles for sketch in sketches])[best_first]
    buckets = clusters.group_equal(keys, has_shingles & (exact == np.arange(len(exact))))
    sizes = {path: sketch.docs.num_rows for path, sketch in zip(paths, sketches, strict=True)}
    sets = candidate_sets(params, sizes, best_first, np.unique(buckets.members))
    pairs = clusters.verify(buckets, sets, params.min_jaccard)
    near = clusters.decide(len(exact), pairs, sets, params.min_jaccard)
    ledger = write_ledger(out, explain(params, table.column("id").take(best_first), exact, near))
    is_kept = np.zeros(len(exact), dtype=bool)
    is_kept[best_first] = near.survivor[exact] == np.arange(len(exact))
    return {
        "docs_in": len(exact),
        "docs_out": int(is_kept.sum()),
        "dropped_exact_duplicate": pc.sum(pc.equal(ledger.column("reason"), "exact_duplicate")).as_py() or 0,
        "dropped_near_duplicate": pc.sum(pc.equal(ledger.column("reason"), "near_duplicate")).as_py() or 0,
        "candidate_pairs": pairs.n_candidates,
        "verified_pairs": len(pairs.left),
        "clusters": len(np.unique(near.cluster[pairs.left])),
        "text_bytes_in": pc.sum(table.column("n_bytes")).as_py() or 0,
        "text_bytes_out": copy_docs(paths, is_kept, out),
    }


def sketch_shard(path: Path, params: Dedupe) -> Sketch:
    """Everything the decision needs but the text: runs in a worker."""
    permuted = minhash.permutations(params.n_bands * params.n_rows, params.seed)
    parts, keys, sizes = [EMPTY], [np.zeros((0, params.n_bands), np.uint64)], [np.zeros(0, np.int64)]
    for batch in read_shard(path, ["id", "text", "source"]):
        folded = fold(batch.column("text"))
        shingles = shingle(split_words(folded), params.ngram_words)
        keys.append(minhash.band_keys(minhash.signatures(shingles, permuted), params.n_bands, params.n_rows))
        sizes.append(np.diff(shingles.offsets))
        columns = {
            "id": batch.column("id"),
            "priority": survivors.priorities(batch.column("source"), params.source_priority),
            "n_bytes": pc.binary_length(batch.column("text")).cast(pa.int64()),
            "digest": survivors.digests(squeeze(folded)),
        }
        parts.append(pa.table(columns))
    return Sketch(pa.concat_tables(parts), np.concatenate(keys), np.concatenate(sizes) > 0)


def candidate_sets(params: Dedupe, sizes: dict[Path, int], best_first: Rows, candidates: Rows) -> Shingles:
    """Shingle sets with a row a rank; those of documents that are no candidates are empty."""
    wanted = np.sort(best_first[candidates])  # places in the corpus, so that each shard is read once and in order
    firsts = np.cumsum([0, *sizes.values()])
    cuts = np.searchsorted(wanted, firsts).tolist()
    work = [(path, wanted[cuts[i] : cuts[i + 1]] - firsts[i]) for i, path in enumerate(sizes) if cuts[i] < cuts[i + 1]]
    found = join([part for item in work for part in shard_sets(item, params.ngram_words)])
    ranks = np.argsort(best_first)[wanted]
    n_shingles = np.zeros(len(best_first), np.int64)
    n_shingles[ranks] = np.diff(found.offsets)
    return Shingles(select(found, np.argsort(ranks)).hashes, np.cumsum(np.append(0, n_shingles)))


def shard_sets(item: tuple[Path, Rows], ngram_words: int) -> list[Shingles]:
    """The shingle sets of some rows of one shard."""
    path, rows = item
    sets: list[Shingles] = []
    first = 0
    for batch in read_shard(path, ["text"]):
        mine = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
        texts = batch.column("text").take(pa.array(mine))
        sets.append(as_sets(shingle(split_words(fold(texts)), ngram_words)))
        first += batch.num_rows
    return sets


def explain(params: Dedupe, ids: pa.ChunkedArray, exact: Rows, near: clusters.Decisions) -> pa.Table:
    """A ledger row for each dropped document. A copy of a near duplicate is near to the same survivor."""
    survivor = near.survivor[exact]
    rows = np.flatnonzero(survivor != np.arange(len(exact)))
    is_exact = near.survivor[exact[rows]] == exact[rows]
    return dropped_rows(
        ids.take(pa.array(rows)),
        stage="dedupe",
        reason=np.where(is_exact, "exact_duplicate", "near_duplicate"),
        value=near.similarity[exact[rows]],
        threshold=np.where(is_exact, 1.0, params.min_jaccard),
        other_id=ids.take(pa.array(survivor[rows])),
    )
