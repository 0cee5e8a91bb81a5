"""Small corpora full of near duplicates, and the decisions that the in-memory algorithm makes about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.params import Dedupe
from pipeline.tables import DOCS, ShardWriter
from pipeline.text import clusters, minhash, survivors
from pipeline.text.clusters import Decisions, Verified
from pipeline.text.columns import Rows
from pipeline.text.normalize import fold, split_words, squeeze
from pipeline.text.shingles import as_sets, shingle


class Reference(NamedTuple):
    """What `ranking` and `near_duplicates` must find, with everything in memory."""

    to_place: Rows
    exact: Rows
    pairs: Verified
    near: Decisions


def related_texts(seed: int, n: int) -> list[str]:
    """Texts of a few families; within one, every text is the last one with some words changed, so that there are chains."""
    rng = random.Random(seed)
    texts: list[str] = []
    while len(texts) < n:
        words = [f"w{rng.randrange(1_000)}" for _ in range(rng.randint(3, 60))]
        for _ in range(rng.randint(1, 8)):
            texts.append(" ".join(words))
            for _ in range(rng.choice([0, 0, 1, 2, 5])):
                words[rng.randrange(len(words))] = f"w{rng.randrange(1_000)}"
    rng.shuffle(texts)
    return texts[:n]


def write_shards(folder: Path, texts: Sequence[str], sources: Sequence[str], n_shards: int) -> list[Path]:
    """`n_shards` shards, some perhaps empty; ids that share a prefix, in no order."""
    paths: list[Path] = []
    cuts = np.linspace(0, len(texts), n_shards + 1).astype(int).tolist()
    for shard in range(n_shards):
        rows = [
            {
                "id": f"document-{(7 * i) % 1_000:04d}",
                "text": texts[i],
                "source": sources[i % len(sources)],
                "locator": "{}",
                "title": "",
                "url": "",
                "licence": "MIT",
            }
            for i in range(cuts[shard], cuts[shard + 1])
        ]
        stem = f"docs-{shard:05d}"
        with ShardWriter(folder / "parts", DOCS, 1 << 40, stem) as writer:
            writer.write(pa.Table.from_pylist(rows, schema=DOCS))
        path = folder / f"{stem}.parquet"
        (folder / "parts" / f"{stem}-00000.parquet").rename(path)
        paths.append(path)
    (folder / "parts").rmdir()
    return paths


def in_memory(params: Dedupe, table: pa.Table) -> Reference:
    """`table` has the columns id, text, source of the whole corpus."""
    text = table.column("text").combine_chunks()
    folded = fold(text)
    shingles = shingle(split_words(folded), params.ngram_words)
    signed = minhash.signatures(shingles, minhash.permutations(params.n_bands * params.n_rows, params.seed))
    keys = minhash.band_keys(signed, params.n_bands, params.n_rows)
    order = survivors.order(
        pa.table(
            {
                "id": table.column("id"),
                "priority": survivors.priorities(table.column("source").combine_chunks(), params.source_priority),
                "n_bytes": pa.array([len(t.encode()) for t in text.to_pylist()]),
            }
        )
    )
    exact = survivors.first_equal(survivors.digests(squeeze(folded)).take(pa.array(order)))
    ordered = as_sets(shingle(split_words(folded.take(pa.array(order))), params.ngram_words))
    is_eligible = (np.diff(ordered.offsets) > 0) & (exact == np.arange(len(exact)))
    pairs = clusters.verify(clusters.group_equal(keys[order], is_eligible), ordered, params.min_jaccard)
    return Reference(order, exact, pairs, clusters.decide(len(exact), pairs, ordered, params.min_jaccard))
