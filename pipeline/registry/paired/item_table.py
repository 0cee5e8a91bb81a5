"""Read what `evaluate` scored item by item: items.parquet and figures.json, of a folder or of a published version.

Out: `Scores` by metric, without the baselines, which are no model's. An item without a group depends on no other. A folder
without items.parquet, as versions of earlier releases have, gives no scores: the gate then compares values and standard errors.
Memory: the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.frame.errors import UserError
from pipeline.registry.paired.differences import Scores
from pipeline.storage.tables import read_table

ITEMS = "items.parquet"
FIGURES = "figures.json"
COLUMNS = ("metric", "id", "group", "score", "size", "is_baseline")
TEXTS = ("prompt", "answer", "expected")
LOWER_BETTER = ("bpb", "_nats", "_bytes", "refused_frac", "obeyed_frac")  # ends of names, where no figure tells


def is_lower_better(metric: str) -> bool:
    """Return whether less of a metric is better, by its name: for metrics that no figure describes."""
    return metric.endswith(LOWER_BETTER)


def read_scores(folder: Path) -> dict[str, Scores]:
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
    ids = columns["id"].astype(str)
    groups = np.where(columns["group"].astype(str) == "", ids, columns["group"].astype(str))
    is_ours = ~columns["is_baseline"].astype(bool)
    scores: dict[str, Scores] = {}
    for metric in dict.fromkeys(columns["metric"][is_ours].tolist()):
        if directions and metric not in directions:
            continue
        rows = is_ours & (columns["metric"] == metric)
        values, sizes = (columns[name][rows].astype(np.float64) for name in ("score", "size"))
        is_lower = directions.get(metric, is_lower_better(metric))
        scores[metric] = Scores(ids[rows], groups[rows], values, sizes, is_lower)
    return scores


def read_directions(path: Path) -> dict[str, bool]:
    """Return by metric whether less is better, as figures.json tells; empty if there is no such file."""
    return {str(figure["metric"]): bool(figure["is_lower_better"]) for figure in read_figures(path)}


def read_titles(path: Path) -> dict[str, str]:
    """Return the titles of the metrics, as figures.json tells; empty if there is no such file."""
    return {str(figure["metric"]): str(figure["title"]) for figure in read_figures(path)}


def read_figures(path: Path) -> list[dict[str, Any]]:
    """Return the figures of a version; empty if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def read_texts(folder: Path) -> Mapping[tuple[str, str], tuple[str, str, str]]:
    """Return (prompt, answer, expected) by metric and id, of the items that have a prompt; empty if there are no items."""
    path = folder / ITEMS
    if not path.exists():
        return {}
    columns = read_table(path, ["metric", "id", *TEXTS]).to_pydict()
    rows = zip(*(columns[name] for name in ("metric", "id", *TEXTS)), strict=True)
    return {(metric, id_): (prompt, answer, expected) for metric, id_, prompt, answer, expected in rows if prompt}
