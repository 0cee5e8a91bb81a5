"""Compare any two versions: finished pipelines in folders, or versions of the registry.

    python -m pipeline.registry compare A B [--out FOLDER]

In: A and B, each the root of a finished pipeline (data/metrics/evaluate.json, data/evaluate), or models:/minigpt/3,
models:/minigpt@champion. Out: `TwoVersions` for the report: every metric with its paired difference by the rules of the gate, items
that changed from right to wrong and back with their texts, and the settings and data that differ. B is judged against A; the
policy is that of this folder's params.yaml. What one of both lacks is named in the table, never left out silently.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.frame.errors import UserError
from pipeline.frame.provenance import read_flat_params
from pipeline.registry.gate import Measurements, decide
from pipeline.registry.lineage import extract_lineage, read_lock
from pipeline.registry.listing import make_decision_rows
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.paired.item_table import FIGURES, ItemTexts, read_scores, read_texts, read_titles
from pipeline.registry.params import Registry
from pipeline.registry.promotion import NAME, find_version
from pipeline.registry.store import MlflowStore
from pipeline.report.labels import describe_metric
from pipeline.report.two_versions import ChangedItem, TwoVersions

URI = re.compile(rf"models:/{NAME}(?:/(\d+)|@([a-z]+))")
METRICS = Path("data/metrics/evaluate.json")
Texts = Mapping[tuple[str, str], ItemTexts]  # by metric and key of the item
HIDDEN = "(the text of this item is not shown: the unseen half is for measuring only)"
OpenStore = Callable[[], AbstractContextManager[MlflowStore]]


@dataclass(frozen=True)
class Side:
    """One of the two versions. `outs`: md5 of every output by path; empty where it is not known."""

    name: str
    measurements: Measurements
    texts: Texts
    titles: Mapping[str, str]
    params: Mapping[str, str]
    outs: Mapping[str, str]
    composition: Mapping[str, Any]


def read_side(name: str, open_registry: OpenStore) -> Side:
    """Read one version. Raises `UserError` for what is neither a finished pipeline nor a version."""
    match = URI.fullmatch(name)
    if match is None:
        return read_folder(Path(name))
    with open_registry() as store:
        return read_version(store, name, match[1], match[2])


def read_folder(root: Path) -> Side:
    """Read a finished pipeline in a folder."""
    if not (root / METRICS).is_file():
        found = "no such folder" if not root.exists() else f"no {METRICS} in it"
        todo = f"name the root of a finished pipeline, or models:/{NAME}/N, or models:/{NAME}@champion"
        raise UserError(f"compare: {root}: neither a finished pipeline nor a version", found, todo)
    metrics = {name: float(value) for name, value in json.loads((root / METRICS).read_text(encoding="utf-8")).items()}
    params = read_flat_params(root / "params.yaml") if (root / "params.yaml").exists() else {}
    lineage = extract_lineage(read_lock(root)) if (root / "dvc.lock").exists() else {}
    name = root.name or root.resolve().name
    return _make_side(name, metrics, root / "data/evaluate", params, lineage)


def read_version(store: MlflowStore, name: str, number: str | None, alias: str | None) -> Side:
    """Read a version of the registry by its number or alias."""
    if number is None:
        aliases = store.read_aliases()
        if alias not in aliases:
            found = ", ".join(f"{name}: {number}" for name, number in aliases.items()) or "no versions"
            raise UserError(f"compare: {name}: no version is {alias}", found, "see `python -m pipeline.registry list`")
        number = aliases[alias]
    version = find_version(store, number)
    with tempfile.TemporaryDirectory() as folder:
        scored = store.download_evaluation(version, Path(folder))
        title = f"version {number}" + (f" ({alias})" if alias else "")
        return _make_side(
            title, store.read_metrics(version), scored, store.read_params(version), store.read_lineage(version)
        )


def _make_side(
    name: str, metrics: Mapping[str, float], scored: Path, params: Mapping[str, str], lineage: Mapping[str, Any]
) -> Side:
    composition = scored / "composition.json"
    return Side(
        name,
        Measurements(metrics, read_scores(scored)),
        read_texts(scored),
        read_titles(scored / FIGURES),
        params,
        {out["path"]: out["md5"] for stage in lineage.values() for out in stage["outs"]},
        json.loads(composition.read_text(encoding="utf-8")) if composition.exists() else {},
    )


def contrast(policy: Registry, before: Side, after: Side) -> TwoVersions:
    """Return how `after` differs from `before`."""
    verdict = decide(policy, after.measurements, before.measurements)
    titles = {**before.titles, **after.titles}
    lost, gained = list_changed(before, after, titles)
    settings = [(name, *values) for name, values in _list_differences(before.params, after.params)]
    return TwoVersions(
        before.name,
        after.name if after.name != before.name else f"{after.name} (2)",
        make_decision_rows(verdict, titles),
        verdict.reason,
        settings,
        list_data_differences(before, after),
        lost,
        gained,
    )


def list_changed(before: Side, after: Side, titles: Mapping[str, str]) -> tuple[list[ChangedItem], list[ChangedItem]]:
    """Return the items that were right and are wrong, and the other way round; one that counts for several metrics once."""
    changed: tuple[dict[str, ChangedItem], dict[str, ChangedItem]] = ({}, {})
    for metric, theirs in before.measurements.items.items():
        ours = after.measurements.items.get(metric)
        if ours is None:
            continue
        was_right, is_right = _list_right(theirs), _list_right(ours)
        for key in [key for key in was_right if key in is_right and was_right[key] != is_right[key]]:
            new = after.texts.get((metric, key)) or ItemTexts(key, HIDDEN, "", "")
            old = before.texts.get((metric, key)) or new
            group = changed[int(is_right[key])]
            item = group.get(key) or ChangedItem(new.id, [], new.prompt, old.answer, new.answer, new.expected)
            group[key] = item._replace(metrics=[*item.metrics, titles.get(metric) or describe_metric(metric)])
    return list(changed[0].values()), list(changed[1].values())


def _list_right(scores: ItemScores) -> dict[str, bool]:
    """Return by key whether an item is right; empty for a metric whose scores are not 0 and 1."""
    if not set(scores.scores.tolist()) <= {0.0, 1.0} or set(scores.sizes.tolist()) != {1.0}:
        return {}
    is_right = scores.scores == (0.0 if scores.is_lower_better else 1.0)
    return dict(zip(scores.ids.tolist(), is_right.tolist(), strict=True))


def list_data_differences(before: Side, after: Side) -> list[tuple[str, str, str]]:
    """Return (what, before, after) for outputs with another md5, and for training data that grew, shrank, came or went."""
    rows = [
        (path, old[:12], new[:12])
        for path, (old, new) in _list_differences(before.outs, after.outs)
        if path.startswith("data/") and not path.startswith(("data/metrics", "data/evaluate"))
    ]
    for kind, unit in (("documents", "tokens"), ("conversations", "conversations")):
        old, new = (_sum_by_source(side.composition.get(kind, ()), unit) for side in (before, after))
        rows += [(f"{kind}: {name}", *values) for name, values in _list_differences(old, new)]
    return rows


def _sum_by_source(rows: Sequence[Mapping[str, Any]], unit: str) -> dict[str, str]:
    totals: dict[str, int] = {}
    for row in rows:
        name = row["source"] or "made by this pipeline"
        totals[name] = totals.get(name, 0) + row[unit]
    return {name: f"{total:,} {unit}" for name, total in totals.items()}


def _list_differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, tuple[str, str]]]:
    names = dict.fromkeys([*before, *after])
    pairs = [(name, (before.get(name, "–"), after.get(name, "–"))) for name in names]
    return [(name, pair) for name, pair in pairs if pair[0] != pair[1]]
