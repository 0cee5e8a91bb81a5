"""Count what a model was trained on, by source and license: for the model card, and for comparing two versions.

In: docs.parquet of the shards, train.parquet of the conversations. Out: composition.json, {"documents": [{source, license, docs,
tokens, bytes}], "conversations": [{source, license, conversations, bytes}]}, largest first. Rows of earlier releases without source
or license count under an empty name. Time: 0.3 s for 60,000 documents and 30,000 conversations.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.tables import read_table

COMPOSITION = "composition.json"


def measure_composition(shards: Path, conversations: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the training documents and conversations by source and license."""
    docs = read_table(shards / "docs.parquet", ["split", "source", "license", "n_tokens", "n_bytes"])
    docs = docs.filter(pc.equal(docs["split"], "train"))
    chats = read_table(conversations / "train.parquet")
    n_bytes = pc.binary_length(pc.cast(chats["messages"], pa.binary()))
    names = {name: chats[name] for name in ("source", "license") if name in chats.column_names}
    empty = pa.nulls(chats.num_rows, pa.string())
    columns = {"source": names.get("source", empty), "license": names.get("license", empty), "n_bytes": n_bytes}
    return {
        "documents": _group(docs, "docs", {"n_tokens": "tokens", "n_bytes": "bytes"}),
        "conversations": _group(pa.table(columns), "conversations", {"n_bytes": "bytes"}),
    }


def _group(table: pa.Table, count_name: str, sums: dict[str, str]) -> list[dict[str, Any]]:
    """Return counts and sums by source and license, sorted by the last sum, then by name."""
    keys = [pc.fill_null(table[name], "") for name in ("source", "license")]
    table = pa.table([*keys, *(table[name] for name in sums)], names=["source", "license", *sums])
    aggregates: list[Any] = [([], "count_all"), *((name, "sum") for name in sums)]
    grouped = table.group_by(["source", "license"]).aggregate(aggregates).to_pylist()
    rows = [
        {
            "source": row["source"],
            "license": row["license"],
            count_name: row["count_all"],
            **{name: row[f"{column}_sum"] for column, name in sums.items()},
        }
        for row in grouped
    ]
    return sorted(rows, key=lambda row: (-row["bytes"], row["source"], row["license"]))
