"""Near duplicates among more documents than memory holds: the decisions of `pipeline/dedupe/minhash/clusters.py`, step by step on disk.

In: sketches of shards (LSH keys), ranks, and the shards themselves for the shingle sets of candidates. Out: for each rank the rank
that stays in its place and how alike they are, as arrays in files.

1. Keys go to parts by band and by their highest bits; a part is sorted in memory, equal keys are a bucket.
2. The sets of all documents in buckets are spooled to one file, which is mapped: 8 bytes a word of these documents, twice.
3. Buckets are verified part by part. A pair that several bands nominate is compared again when it has left a table of
   `memory_bytes` / 8, and counted once.
4. Union-find over a mapped array; clusters go to parts by their first document, and elect who stays.

Memory: `memory_bytes`, and one bucket or cluster where that is larger (16 bytes a member). Disk: 16 bytes a document and band, 40 a
document, the sets. What is mapped is read at random: fast while the sets of candidates fit in the machine's free memory.
Source: `pipeline/dedupe/minhash/clusters.py` names it.
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

from pipeline.dedupe.arrays import Spool, append, part_count, read_array
from pipeline.dedupe.minhash import clusters
from pipeline.dedupe.minhash.clusters import MAX_CENTRES, SPREAD, VERIFIED, Buckets, Members, Slices
from pipeline.dedupe.minhash.shingles import as_sets, shingle
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.ranking import CHUNK, Corpus, Ranks, equal_neighbours, fill_with_places, fixed_bytes, top_bits
from pipeline.storage.arrow import read_arrow, write_arrow
from pipeline.storage.tables import read_shard
from pipeline.text.columns import Fractions, Rows
from pipeline.text.normalize import fold, split_words
from pipeline.workers.results import map_files

BY_KEY = np.dtype([("key", "<u8"), ("rank", "<i8")])
BY_CLUSTER = np.dtype([("cluster", "<i8"), ("rank", "<i8")])
SETS = pa.schema([("place", pa.int64()), ("n", pa.int64()), ("hashes", pa.large_list(pa.uint64()))])
MIN_EDGES = 1_024  # room for this many pairs, however little memory is given


class Near(NamedTuple):
    """For each rank who stays in its place and how alike they are; how much was compared and found."""

    survivor: Rows
    similarity: Fractions
    n_candidates: int
    n_verified: int
    n_clusters: int


class BucketSpool(NamedTuple):
    """Buckets, part by part: their members and their sizes."""

    members: Spool
    sizes: Spool

    def drain(self, part: int) -> Buckets:
        return Buckets(self.members.drain(part), np.cumsum(np.append(0, self.sizes.drain(part))))


def find(params: Dedupe, paths: Sequence[Path], corpus: Corpus, ranks: Ranks, exact: Rows, made: Path) -> Near:
    """The shards are `paths`, in the order of the corpus's sketches; sets that were made are in the folder `made`."""
    is_candidate = corpus.array("is_candidate", np.bool_)
    buckets = group(params, corpus, ranks, exact, is_candidate)
    sets = spool_sets(params, paths, corpus, ranks, is_candidate, made)
    cluster = corpus.array("cluster", np.int64)
    fill_with_places(cluster)
    n_candidates, n_verified = verify(corpus, buckets, sets, params.min_jaccard, cluster)
    clusters.flatten(cluster)
    return elect(corpus, cluster, sets, params.min_jaccard)._replace(n_candidates=n_candidates, n_verified=n_verified)


def group(
    params: Dedupe, corpus: Corpus, ranks: Ranks, exact: Rows, is_candidate: npt.NDArray[np.int64]
) -> BucketSpool:
    """Buckets of documents with the same key in the same band; marks whoever is in one, by its place."""
    n_bands = params.n_bands
    n_parts = part_count(corpus.n_docs * BY_KEY.itemsize, corpus.memory_bytes)  # of one band
    spool = corpus.spool("by_key", BY_KEY, n_bands * n_parts)
    for first, table in corpus.tables(["keys", "has_shingles"]):
        rank = ranks.of_place[first : first + len(table)]
        is_eligible = table.column("has_shingles").to_numpy(zero_copy_only=False) & (exact[rank] == rank)
        is_eligible &= ~corpus.is_known[first : first + len(table)]
        keys = fixed_bytes(table.column("keys"), np.uint64, n_bands)[is_eligible]
        records = np.empty(keys.shape, BY_KEY)
        records["key"], records["rank"] = keys, rank[is_eligible, None]
        parts = np.arange(n_bands) * n_parts + top_bits(keys, n_parts)
        spool.write(records.ravel(), parts.ravel())
    found = BucketSpool(*(corpus.spool(name, np.int64, spool.n_parts) for name in ("members", "sizes")))
    for part in range(spool.n_parts):
        records = equal_neighbours(spool.drain(part), "key")
        if len(records):
            records = records[np.lexsort((records["rank"], records["key"]))]
            starts = np.flatnonzero(np.append(True, np.diff(records["key"]) != 0))
            members, sizes = records["rank"], np.diff(starts, append=len(records))
            found.members.write(members, np.full(len(members), part))
            found.sizes.write(sizes, np.full(len(sizes), part))
            is_candidate[ranks.to_place[members]] = True
    return found


def spool_sets(
    params: Dedupe, paths: Sequence[Path], corpus: Corpus, ranks: Ranks, is_candidate: npt.NDArray[np.int64], made: Path
) -> Slices:
    """The shingle sets of the candidates in one file, in the order of the corpus; nothing for the others. Those of each shard
    are a file in the folder `made` first, so that only paths travel to workers, and a stopped run finds what it has made."""
    starts, stops = corpus.array("set_starts", np.int64), corpus.array("set_stops", np.int64)
    path, n_hashes = corpus.folder / "sets.bin", 0
    wanted = list(list_candidates(paths, corpus, is_candidate))
    work = partial(write_sets, ngram_words=params.ngram_words)
    with path.open("wb") as file:
        for result in map_files(work, wanted, results=made, settings=str(params.ngram_words)):
            table = read_arrow(result)
            rank = ranks.of_place[table.column("place").to_numpy()]
            ends = n_hashes + np.cumsum(table.column("n").to_numpy())
            starts[rank], stops[rank] = np.append(n_hashes, ends[:-1]), ends
            for chunk in table.column("hashes").chunks:
                append(file, chunk.flatten().to_numpy())
            n_hashes = int(ends[-1])
    return Slices(read_array(path, np.uint64), starts, stops)


def list_candidates(paths: Sequence[Path], corpus: Corpus, is_candidate: npt.NDArray[np.int64]) -> Iterator[Path]:
    """A file for each shard that has candidates: which shard, where it begins, which of its rows. The sketch's name, which
    is a hash of the shard's bytes, makes the file's content the name of the work."""
    folder = corpus.folder / "wanted"
    folder.mkdir()
    for i, (first, stop) in enumerate(pairwise(corpus.firsts.tolist())):
        rows = np.flatnonzero(is_candidate[first:stop])
        if len(rows):
            told = {"shard": str(paths[i].absolute()), "sketch": corpus.sketches[i].name, "first": str(first)}
            path = folder / f"{i:06d}"
            write_arrow(path, pa.table({"row": rows}).replace_schema_metadata(told))
            yield path


def write_sets(wanted: Path, result: Path, ngram_words: int) -> None:
    """Places, sizes and shingle sets of the rows that are wanted of one shard; runs in a worker."""
    table = read_arrow(wanted)
    told, rows = table.schema.metadata, table.column("row").to_numpy()
    parts, first = [SETS.empty_table()], 0
    for batch in read_shard(Path(told[b"shard"].decode()), ["text"]):
        mine = rows[(rows >= first) & (rows < first + batch.num_rows)]
        sets = as_sets(shingle(split_words(fold(batch.column("text").take(pa.array(mine - first)))), ngram_words))
        columns = {
            "place": pa.array(mine + int(told[b"first"])),
            "n": pa.array(np.diff(sets.offsets)),
            "hashes": pa.LargeListArray.from_arrays(pa.array(sets.offsets), pa.array(sets.hashes)),
        }
        parts.append(pa.table(columns, schema=SETS))
        first += batch.num_rows
    write_arrow(result, pa.concat_tables(parts))


def verify(corpus: Corpus, spool: BucketSpool, sets: Slices, min_jaccard: float, cluster: Rows) -> tuple[int, int]:
    """Compares what shares a bucket, joins what is alike; how many pairs were looked at, how many hold."""
    n_parts = part_count(spool.members.n_records * 8, corpus.memory_bytes)
    pairs_spool = corpus.spool("pairs", np.uint64, n_parts)
    seen = clusters.new_seen(min(corpus.memory_bytes // 8, 64 * spool.members.n_records))
    for part in range(spool.members.n_parts):
        buckets, position = spool.drain(part), np.zeros(3, np.int64)
        if len(buckets.members) == 0:
            continue
        room = min(MAX_CENTRES * len(buckets.members), corpus.memory_bytes // 64)
        edges = np.empty(max(MIN_EDGES, room, int(np.diff(buckets.offsets).max())), np.uint64)
        while position[0] < len(buckets.offsets) - 1:
            found = edges[: clusters.star_edges(buckets, position, sets, min_jaccard, seen, edges)].copy()
            pairs_spool.write(found, top_bits((found & ~VERIFIED) * SPREAD, n_parts))
    n_candidates = n_verified = 0
    for part in range(n_parts):
        pairs = np.unique(pairs_spool.drain(part))
        codes = (pairs[pairs >= VERIFIED] & ~VERIFIED).astype(np.int64)
        clusters.join_pairs(cluster, codes // corpus.n_docs, codes % corpus.n_docs)
        n_candidates += len(pairs)
        n_verified += len(codes)
    return n_candidates, n_verified


def elect(corpus: Corpus, cluster: Rows, sets: Slices, min_jaccard: float) -> Near:
    """In each cluster, best document first: who resembles none of those that stay stays as well."""
    survivor, similarity = corpus.array("survivor", np.int64), corpus.array("similarity", np.float64)
    fill_with_places(survivor)
    similarity[:] = 1.0
    chunks = range(0, corpus.n_docs, CHUNK)
    n_followers = sum(int(np.count_nonzero(_followers(cluster, first))) for first in chunks)
    n_parts = part_count(2 * n_followers * BY_CLUSTER.itemsize, corpus.memory_bytes)
    spool = corpus.spool("by_cluster", BY_CLUSTER, n_parts)
    for first in chunks:
        rank = first + np.flatnonzero(_followers(cluster, first))
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


def _followers(cluster: Rows, first: int) -> npt.NDArray[np.bool_]:
    """Who in this chunk is not the first of its cluster."""
    some = cluster[first : first + CHUNK]
    return some != np.arange(first, first + len(some))
