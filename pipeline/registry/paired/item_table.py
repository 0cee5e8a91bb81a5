"""Read what `evaluate` scored item by item: items.parquet and figures.json, of a folder or of a published version.

Out: `ItemScores` by metric, without the baselines, which are no model's. An item without a group depends on no other. Two versions
have an item in common if its texts are the same (prompt and expected answer), whatever its id: ids of made items are their
positions, which another held-out set shifts. Items without texts go by their id. A folder without items.parquet, as versions of
earlier releases have, gives no scores: the gate then compares values and standard errors.
Memory: the table.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.frame.errors import UserError
from pipeline.registry.paired.differences import ItemScores
from pipeline.storage.tables import read_table

ITEMS = "items.parquet"
FIGURES = "figures.json"
COLUMNS = ("metric", "id", "group", "score", "size", "is_baseline")
TEXTS = ("prompt", "answer", "expected")
# Ends of names, where no figure tells.
LOWER_BETTER = ("bpb", "_nats", "_bytes", "harmless_refused_frac", "obeyed_frac")


class ItemTexts(NamedTuple):
    """What an item asks, what the model answered, and what was expected."""

    id: str
    prompt: str
    answer: str
    expected: str


def is_lower_better(metric: str) -> bool:
    """Return whether less of a metric is better, by its name: for metrics that no figure describes."""
    return metric.endswith(LOWER_BETTER)


def read_scores(folder: Path) -> dict[str, ItemScores]:
    """Return the scores by metric of a folder of `evaluate`; empty if it has no items. Raises `UserError` for a wrong table.

    Where figures.json tells what people read, these metrics alone: not the same items by kind or source.
    """
    path = folder / ITEMS
    if not path.exists():
        return {}
    table = read_table(path)
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise UserError(
            f"{path}: not a table of items",
            f"no column {', '.join(missing)}",
            "evaluate the model again: dvc repro evaluate",
        )
    directions = read_directions(folder / FIGURES)
    columns = {name: np.asarray(table.column(name).to_pylist()) for name in COLUMNS}
    ids, keys = columns["id"].astype(str), np.asarray(make_keys(table))
    groups = np.where(columns["group"].astype(str) == "", ids, columns["group"].astype(str))
    is_ours = ~columns["is_baseline"].astype(bool)
    scores: dict[str, ItemScores] = {}
    for metric in dict.fromkeys(columns["metric"][is_ours].tolist()):
        if directions and metric not in directions:
            continue
        rows = is_ours & (columns["metric"] == metric)
        values, sizes = (columns[name][rows].astype(np.float64) for name in ("score", "size"))
        is_lower = directions.get(metric, is_lower_better(metric))
        scores[metric] = ItemScores(keys[rows], groups[rows], values, sizes, is_lower)
    return scores


def make_keys(table: pa.Table) -> list[str]:
    """Return what identifies each item: a digest of its texts, with its id where a metric has the same texts twice, or its id."""
    names = [name for name in ("metric", "id", "prompt", "expected") if name in table.column_names]
    rows = [
        dict(zip(names, row, strict=True))
        for row in zip(*(table.column(name).to_pylist() for name in names), strict=True)
    ]
    digests = [
        hashlib.blake2b(f"{row['prompt']}\0{row.get('expected')}".encode(), digest_size=12).hexdigest()
        if row.get("prompt")
        else ""
        for row in rows
    ]
    counts = Counter((row["metric"], digest) for row, digest in zip(rows, digests, strict=True))
    return [
        row["id"] if not digest else digest if counts[row["metric"], digest] == 1 else f"{digest} {row['id']}"
        for row, digest in zip(rows, digests, strict=True)
    ]


def read_directions(path: Path) -> dict[str, bool]:
    """Return by metric whether less is better, as figures.json tells; empty if there is no such file."""
    return {str(figure["metric"]): bool(figure["is_lower_better"]) for figure in read_figures(path)}


def read_titles(path: Path) -> dict[str, str]:
    """Return the titles of the metrics, as figures.json tells; empty if there is no such file."""
    return {str(figure["metric"]): str(figure["title"]) for figure in read_figures(path)}


def read_figures(path: Path) -> list[dict[str, Any]]:
    """Return the figures of a version; empty if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def read_texts(folder: Path) -> Mapping[tuple[str, str], ItemTexts]:
    """Return the texts by metric and key of the item, of those that have a prompt; empty if there are no items."""
    path = folder / ITEMS
    if not path.exists():
        return {}
    table = read_table(path, ["metric", "id", *TEXTS])
    rows = zip(
        make_keys(table),
        table.column("metric").to_pylist(),
        *(table.column(name).to_pylist() for name in ("id", *TEXTS)),
        strict=True,
    )
    return {(metric, key): ItemTexts(*texts) for key, metric, *texts in rows if texts[1]}
