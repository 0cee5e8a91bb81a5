"""Small corpora as the stages would write them, from a few words about each document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.ledger.places import DataSnapshot
from pipeline.storage.tables import DOCS, TOKEN_DOCS, ShardWriter, write_ledger, write_table

STAGES = ("download", "dedupe", "filter")


def an_id(number: int) -> str:
    """Return 32 digits, spread over all ids as hashes are."""
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


def doc(number: int, **columns: str) -> dict[str, str]:
    row = {
        "text": f"Text {number}.",
        "source": "text/pages",
        "locator": f'{{"row":{number}}}',
        "title": f"Page {number}",
    }
    row |= {"url": f"https://site{number % 5}.example.org/{number}", "license": "MIT"}
    return {"id": an_id(number), **row, **columns}


def dropped(doc_id: str, stage: str, reason: str, other_id: str = "", decision: str = "dropped") -> dict[str, Any]:
    row = {"id": doc_id, "stage": stage, "decision": decision, "reason": reason, "other_id": other_id}
    return {**row, "value": 1.0, "threshold": 2.0}


def write_corpus(
    root: Path,
    docs: Sequence[Mapping[str, str]],
    ledger: Sequence[Mapping[str, Any]] = (),
    shard_bytes: int = 64,
    name: str = "workspace",
) -> DataSnapshot:
    """Write each stage's documents without those dropped by it or before it, its ledger, and the shards' table."""
    gone: set[str] = set()
    for stage in STAGES:
        rows = [dict(row) for row in ledger if row["stage"] == stage]
        gone |= {row["id"] for row in rows if row["decision"] == "dropped"}
        stay = sorted((dict(row) for row in docs if row["id"] not in gone), key=lambda row: row["id"])
        with ShardWriter(root / stage, DOCS, shard_bytes) as writer:
            for first in range(0, len(stay), 3):
                writer.write(pa.Table.from_pylist(stay[first : first + 3], DOCS))
        write_ledger(root / stage, rows)
    (root / "shard").mkdir()
    tokens = [
        {
            **{name: row[name] for name in ("id", "source", "license", "title")},
            "split": "train",
            "start": 10 * i,
            "n_tokens": 10,
            "n_bytes": 10,
        }
        for i, row in enumerate(stay)
    ]
    write_table(root / "shard" / "docs.parquet", pa.Table.from_pylist(tokens, TOKEN_DOCS))
    return DataSnapshot(name, {stage: root / stage for stage in (*STAGES, "shard")})
