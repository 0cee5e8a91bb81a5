"""Check the metrics of a stage, which are flat, finite numbers that reconcile, and write small JSON files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

Metrics = dict[str, float | int]


def check_metrics(stage: str, metrics: Metrics) -> None:
    """Assert that metrics are flat, finite numbers and, for a text stage, that every document is accounted for."""
    for name, value in metrics.items():
        assert type(value) in (int, float), f"{stage}: {name} is not a number: {value!r}"
        assert math.isfinite(value), f"{stage}: {name} is {value}"
    if "docs_in" in metrics and "docs_out" in metrics:
        dropped = sum(value for name, value in metrics.items() if name.startswith("dropped_"))
        accounted = metrics["docs_out"] + dropped
        assert metrics["docs_in"] == accounted, f"{stage}: {metrics['docs_in']} documents in, {accounted} accounted for"


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write sorted, indented JSON atomically: the file is complete or unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
