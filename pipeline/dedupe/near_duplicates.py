"""Find near duplicates among more documents than fit in memory: the decisions of `minhash/clusters.py`, made on disk.

In: sketches of shards (LSH keys), ranks, and the shards themselves for the shingle sets of candidates. Out: for each rank the rank
of its survivor and their similarity, as arrays in files.

1. Keys are assigned to parts by band and by their highest bits; a part is sorted in memory, equal keys form a bucket.
2. The sets of all documents in buckets are spooled to one mapped file: 8 bytes per word of these documents, twice.
3. Buckets are verified part by part. A pair that several bands nominate is compared again if it was evicted from a table of
   `memory_bytes` / 8, and counted once.
4. Union-find runs over a mapped array; clusters are assigned to parts by their first document, and each elects its survivors.

Memory: `memory_bytes`, or one bucket or cluster where that is larger (16 bytes per member). Disk: 16 bytes per document and band,
40 per document, and the sets. Mapped files are read at random: fast while the sets of candidates fit in free memory.
Source: see `minhash/clusters.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dedupe.arrays import Spool, append_numbers, count_parts, read_array
from pipeline.dedupe.minhash import clusters
from pipeline.dedupe.minhash.clusters import MAX_CENTERS, SPREAD, VERIFIED, Buckets, Members, Slices
from pipeline.dedupe.minhash.shingles import make_sets, shingle
from pipeline.dedupe.minhash.visible import fold_visible
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.ranking import (
    CHUNK,
    Corpus,
    Ranks,
    assign_parts,
    fill_with_positions,
    select_equal_neighbors,
    view_fixed_bytes,
)
from pipeline.storage.arrow import read_arrow, write_arrow
from pipeline.storage.tables import read_shard
from pipeline.text.columns import Fractions, Rows
from pipeline.text.normalize import split_words
from pipeline.workers.results import map_files

BY_KEY = np.dtype([("key", "<u8"), ("rank", "<i8")])
BY_CLUSTER = np.dtype([("cluster", "<i8"), ("rank", "<i8")])
SETS = pa.schema([("position", pa.int64()), ("n", pa.int64()), ("hashes", pa.large_list(pa.uint64()))])
MIN_EDGES = 1_024  # room for this many pairs, however small `memory_mb` is


class Near(NamedTuple):
    """Hold the survivor of each rank and their similarity, and the numbers of pairs compared, of duplicates and of clusters."""

    survivor: Rows
    similarity: Fractions
    n_candidates: int
    n_verified: int
    n_clusters: int


class BucketSpool(NamedTuple):
    """Spool buckets, part by part: their members and their sizes."""

    members: Spool
    sizes: Spool

    def drain(self, part: int) -> Buckets:
        return Buckets(self.members.drain(part), np.cumsum(np.append(0, self.sizes.drain(part))))


def find_near_duplicates(
    params: Dedupe, paths: Sequence[Path], corpus: Corpus, ranks: Ranks, exact: Rows, results: Path
) -> Near:
    """Return the near duplicates of the shards `paths`, which are in the order of the corpus's sketches. Shingle sets that an
    earlier run finished are in the folder `results`."""
    is_candidate = corpus.make_array("is_candidate", np.bool_)
    buckets = group_by_key(params, corpus, ranks, exact, is_candidate)
    sets = spool_sets(params, paths, corpus, ranks, is_candidate, results)
    cluster = corpus.make_array("cluster", np.int64)
    fill_with_positions(cluster)
    n_candidates, n_verified = verify(corpus, buckets, sets, params.min_jaccard, cluster)
    clusters.flatten(cluster)
    return elect(corpus, cluster, sets, params.min_jaccard)._replace(n_candidates=n_candidates, n_verified=n_verified)


def group_by_key(
    params: Dedupe, corpus: Corpus, ranks: Ranks, exact: Rows, is_candidate: npt.NDArray[np.int64]
) -> BucketSpool:
    """Return the buckets of documents with the same key in the same band; flag their members in `is_candidate`, by position."""
    n_bands = params.n_bands
    n_parts = count_parts(corpus.n_docs * BY_KEY.itemsize, corpus.memory_bytes)  # per band
    spool = corpus.make_spool("by_key", BY_KEY, n_bands * n_parts)
    for first, table in corpus.read_tables(["keys", "has_shingles"]):
        rank = ranks.of_position[first : first + len(table)]
        is_eligible = table.column("has_shingles").to_numpy(zero_copy_only=False) & (exact[rank] == rank)
        is_eligible &= ~corpus.is_known[first : first + len(table)]
        keys = view_fixed_bytes(table.column("keys"), np.uint64, n_bands)[is_eligible]
        records = np.empty(keys.shape, BY_KEY)
        records["key"], records["rank"] = keys, rank[is_eligible, None]
        parts = np.arange(n_bands) * n_parts + assign_parts(keys, n_parts)
        spool.write(records.ravel(), parts.ravel())
    buckets = BucketSpool(*(corpus.make_spool(name, np.int64, spool.n_parts) for name in ("members", "sizes")))
    for part in range(spool.n_parts):
        records = select_equal_neighbors(spool.drain(part), "key")
        if len(records):
            records = records[np.lexsort((records["rank"], records["key"]))]
            starts = np.flatnonzero(np.append(True, np.diff(records["key"]) != 0))
            members, sizes = records["rank"], np.diff(starts, append=len(records))
            buckets.members.write(members, np.full(len(members), part))
            buckets.sizes.write(sizes, np.full(len(sizes), part))
            is_candidate[ranks.to_position[members]] = True
    return buckets


def spool_sets(
    params: Dedupe,
    paths: Sequence[Path],
    corpus: Corpus,
    ranks: Ranks,
    is_candidate: npt.NDArray[np.int64],
    results: Path,
) -> Slices:
    """Return the shingle sets of the candidates in one file, in the order of the corpus; all other sets are empty. Workers first
    write the sets of each shard to a file in the folder `results`, so that only paths are sent to workers and a stopped run can
    resume."""
    starts, stops = corpus.make_array("set_starts", np.int64), corpus.make_array("set_stops", np.int64)
    path, n_hashes = corpus.folder / "sets.bin", 0
    wanted = list(list_candidates(paths, corpus, is_candidate))
    work = partial(write_sets, ngram_words=params.ngram_words)
    with path.open("wb") as file:
        for result in map_files(work, wanted, results=results, settings=str(params.ngram_words)):
            table = read_arrow(result)
            rank = ranks.of_position[table.column("position").to_numpy()]
            ends = n_hashes + np.cumsum(table.column("n").to_numpy())
            starts[rank], stops[rank] = np.append(n_hashes, ends[:-1]), ends
            for chunk in table.column("hashes").chunks:
                append_numbers(file, chunk.flatten().to_numpy())
            n_hashes = int(ends[-1])
    return Slices(read_array(path, np.uint64), starts, stops)


def list_candidates(paths: Sequence[Path], corpus: Corpus, is_candidate: npt.NDArray[np.int64]) -> Iterator[Path]:
    """Yield one file for each shard that has candidates: the shard, the position of its first document, the candidates' rows. It
    also contains the name of the sketch, a hash of the shard's bytes, so that the hash of this file identifies the work."""
    folder = corpus.folder / "wanted"
    folder.mkdir()
    for i, (first, stop) in enumerate(pairwise(corpus.firsts.tolist())):
        rows = np.flatnonzero(is_candidate[first:stop])
        if len(rows):
            metadata = {"shard": str(paths[i].absolute()), "sketch": corpus.sketches[i].name, "first": str(first)}
            path = folder / f"{i:06d}"
            write_arrow(path, pa.table({"row": rows}).replace_schema_metadata(metadata))
            yield path


def write_sets(wanted: Path, result: Path, ngram_words: int) -> None:
    """Write positions, sizes and shingle sets of the wanted rows of one shard; runs in a worker."""
    table = read_arrow(wanted)
    metadata, rows = table.schema.metadata, table.column("row").to_numpy()
    parts, first = [SETS.empty_table()], 0
    for batch in read_shard(Path(metadata[b"shard"].decode()), ["text"]):
        mine = rows[(rows >= first) & (rows < first + batch.num_rows)]
        sets = make_sets(
            shingle(split_words(fold_visible(batch.column("text").take(pa.array(mine - first)))), ngram_words)
        )
        columns = {
            "position": pa.array(mine + int(metadata[b"first"])),
            "n": pa.array(np.diff(sets.offsets)),
            "hashes": pa.LargeListArray.from_arrays(pa.array(sets.offsets), pa.array(sets.hashes)),
        }
        parts.append(pa.table(columns, schema=SETS))
        first += batch.num_rows
    write_arrow(result, pa.concat_tables(parts))


def verify(corpus: Corpus, spool: BucketSpool, sets: Slices, min_jaccard: float, cluster: Rows) -> tuple[int, int]:
    """Compare documents that share a bucket and join duplicates in `cluster`. Return the numbers of pairs compared and of
    duplicates."""
    n_parts = count_parts(spool.members.n_records * 8, corpus.memory_bytes)
    pairs_spool = corpus.make_spool("pairs", np.uint64, n_parts)
    seen = clusters.make_pair_table(min(corpus.memory_bytes // 8, 64 * spool.members.n_records))
    for part in range(spool.members.n_parts):
        buckets, position = spool.drain(part), np.zeros(3, np.int64)
        if len(buckets.members) == 0:
            continue
        room = min(MAX_CENTERS * len(buckets.members), corpus.memory_bytes // 64)
        edges = np.empty(max(MIN_EDGES, room, int(np.diff(buckets.offsets).max())), np.uint64)
        while position[0] < len(buckets.offsets) - 1:
            pairs = edges[: clusters.find_star_edges(buckets, position, sets, min_jaccard, seen, edges)].copy()
            pairs_spool.write(pairs, assign_parts((pairs & ~VERIFIED) * SPREAD, n_parts))
    n_candidates = n_verified = 0
    for part in range(n_parts):
        pairs = np.unique(pairs_spool.drain(part))
        codes = (pairs[pairs >= VERIFIED] & ~VERIFIED).astype(np.int64)
        clusters.join_pairs(cluster, codes // corpus.n_docs, codes % corpus.n_docs)
        n_candidates += len(pairs)
        n_verified += len(codes)
    return n_candidates, n_verified


def elect(corpus: Corpus, cluster: Rows, sets: Slices, min_jaccard: float) -> Near:
    """Elect survivors in each cluster, best document first: a document that is similar to no earlier survivor survives as well."""
    survivor, similarity = corpus.make_array("survivor", np.int64), corpus.make_array("similarity", np.float64)
    fill_with_positions(survivor)
    similarity[:] = 1.0
    chunks = range(0, corpus.n_docs, CHUNK)
    n_followers = sum(int(np.count_nonzero(_is_follower(cluster, first))) for first in chunks)
    n_parts = count_parts(2 * n_followers * BY_CLUSTER.itemsize, corpus.memory_bytes)
    spool = corpus.make_spool("by_cluster", BY_CLUSTER, n_parts)
    for first in chunks:
        rank = first + np.flatnonzero(_is_follower(cluster, first))
        records = np.empty(len(rank), BY_CLUSTER)
        records["rank"], records["cluster"] = rank, cluster[rank]
        spool.write(records, records["cluster"] * n_parts // corpus.n_docs)
    n_clusters = 0
    for part in range(n_parts):
        records = spool.drain(part)
        leaders = np.unique(records["cluster"])
        rows = np.concatenate([leaders, records["rank"]])
        owner = np.concatenate([leaders, records["cluster"]])
        order = np.lexsort((rows, owner))
        clusters.elect(Members(rows[order], owner[order]), sets, min_jaccard, survivor, similarity)
        n_clusters += len(leaders)
    return Near(survivor, similarity, 0, 0, n_clusters)


def _is_follower(cluster: Rows, first: int) -> npt.NDArray[np.bool_]:
    """Return which documents of this chunk are not the first of their cluster."""
    chunk = cluster[first : first + CHUNK]
    return chunk != np.arange(first, first + len(chunk))
