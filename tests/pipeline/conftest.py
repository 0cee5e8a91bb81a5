"""Small corpora, made on the spot."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from pipeline.storage.tables import DOCS, ShardWriter, read_docs

WORDS = [
    "the",
    "array",
    "of",
    "values",
    "returns",
    "a",
    "new",
    "axis",
    "with",
    "shape",
    "and",
    "type",
    "for",
    "each",
    "row",
    "in",
    "this",
    "matrix",
    "that",
    "is",
    "given",
    "compute",
    "mean",
    "along",
    "index",
    "when",
    "true",
    "false",
    "default",
    "number",
    "function",
    "object",
    "sequence",
    "élan",
    "naïve",
    "数组",
    "🎉",
    "x",
    "y",
    "12",
    "3.5",
]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 14))).capitalize() + "."


def write_docs(folder: Path, texts: Sequence[str], source: str = "test/words") -> Path:
    """Documents titled `word.<number>`, sorted by id as every stage leaves them."""
    rows = [
        {
            "id": xxhash.xxh3_128_hexdigest(f"{number}\0{text}".encode()),
            "text": text,
            "source": source,
            "locator": "{}",
            "title": f"word.{number}",
            "url": "",
            "license": "CC0-1.0",
        }
        for number, text in enumerate(texts)
    ]
    with ShardWriter(folder, DOCS, shard_bytes=20_000) as writer:
        writer.write(pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]), schema=DOCS))
    return folder


def write_with_copies(docs: Path, folder: Path) -> Path:
    """Write the documents of a folder again, each followed by a copy under another id that is for search only."""
    table = read_docs(docs)
    ids = pa.array([f"{id_}-copy" for id_ in table.column("id").to_pylist()])
    copies = table.drop_columns(["id", "is_search_only"]).append_column("id", ids)
    copies = copies.append_column("is_search_only", pa.repeat(True, len(ids)))
    with ShardWriter(folder, DOCS, shard_bytes=20_000) as writer:
        writer.write(pa.concat_tables([table, copies.select(DOCS.names)]).sort_by("id"))
    return folder


@pytest.fixture
def make_docs(tmp_path: Path) -> Callable[..., Path]:
    """`make_docs(n)` writes n random documents below tmp_path/docs."""

    def make(n: int, seed: int = 0, n_sentences: int = 8) -> Path:
        rng = random.Random(seed)
        return write_docs(tmp_path / "docs", [" ".join(sentence(rng) for _ in range(n_sentences)) for _ in range(n)])

    return make
