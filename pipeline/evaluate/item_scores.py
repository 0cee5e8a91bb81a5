"""Score items, and estimate metrics from the scores.

Each item has one score per metric; the metric is Σ score / Σ size over its items, with the standard error of a ratio of sums over
the items' groups (estimates.py). All items of all tasks are one table, items.parquet, so that any two versions can be compared item
by item: join them by metric and id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.evaluate.estimates import Estimate, estimate_ratio
from pipeline.frame.metrics import Metrics

ITEMS = pa.schema(
    [
        *((name, pa.string()) for name in ("task", "metric", "id", "group")),
        *((name, pa.float64()) for name in ("score", "size")),
        ("is_baseline", pa.bool_()),
        *((name, pa.string()) for name in ("prompt", "answer", "expected")),
    ]
)


class ItemScore(NamedTuple):
    """The score of one item in one metric. Items of a `group` depend on each other: turns of a conversation, pairs of a paradigm;
    an empty one is the item's own. `size` is what the scores are divided by: 1, or the bytes of a document."""

    metric: str
    id: str
    score: float
    group: str = ""
    size: float = 1.0
    is_baseline: bool = False
    prompt: str = ""
    answer: str = ""
    expected: str = ""


class Figure(NamedTuple):
    """A metric that people read, and those that are shown beside it: what a simple method or chance reaches on the same items."""

    metric: str
    title: str
    meaning: str
    is_lower_better: bool = False
    baselines: Mapping[str, str] = {}  # metric → title


def summarize_items(items: Sequence[ItemScore]) -> dict[str, Estimate]:
    """Return the estimate of each metric, in the order in which they first occur."""
    by_metric: dict[str, list[ItemScore]] = {}
    for item in items:
        by_metric.setdefault(item.metric, []).append(item)
    return {
        metric: estimate_ratio(
            [item.score for item in rows], [item.size for item in rows], [item.group or item.id for item in rows]
        )
        for metric, rows in by_metric.items()
    }


def describe_figures(figures: Sequence[Figure], estimates: Mapping[str, Estimate]) -> list[dict[str, Any]]:
    """Return the figures with their values as JSON; one that has no items is left out."""
    return [
        {
            **describe_estimate(figure.metric, figure.title, estimates[figure.metric]),
            "meaning": figure.meaning,
            "is_lower_better": figure.is_lower_better,
            "baselines": [
                describe_estimate(metric, title, estimates[metric])
                for metric, title in figure.baselines.items()
                if metric in estimates
            ],
        }
        for figure in figures
        if figure.metric in estimates
    ]


def describe_estimate(metric: str, title: str, estimate: Estimate) -> dict[str, Any]:
    """Return a metric with its title and estimate as JSON."""
    return {"metric": metric, "title": title, "value": estimate.value, "se": estimate.se, "n": estimate.n}


def make_item_table(task: str, items: Sequence[ItemScore]) -> pa.Table:
    """Return the items of one task as rows of `ITEMS`."""
    rows = [{"task": task, **item._asdict(), "group": item.group or item.id} for item in items]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def list_metrics(estimates: Mapping[str, Estimate]) -> Metrics:
    """Return each estimate as a metric and its standard error."""
    return {
        name: value
        for metric, each in estimates.items()
        for name, value in ((metric, each.value), (f"{metric}_se", each.se))
    }
