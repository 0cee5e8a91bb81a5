"""Make small corpora with many near duplicates."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.storage.tables import DOCS, ShardWriter


def related_texts(seed: int, n: int) -> list[str]:
    """Return texts of a few families; within one, every text is the previous one with some words changed, so that there are
    chains."""
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
    """Write `n_shards` shards, some of them possibly empty, with unsorted ids that share a prefix. Return their paths."""
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
                "license": "MIT",
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
