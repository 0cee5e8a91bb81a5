"""Print the answers of the ledger as tables or JSON. In: a `Diff`, `Replay` or `TakedownPlan`. Out: lines on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from pipeline.ledger.diff import Diff
from pipeline.ledger.replay import Replay
from pipeline.ledger.takedown import TakedownPlan, TakedownRow
from pipeline.ledger.versions import Sight, describe_sights
from pipeline.registry.listing import make_console

MAX_SHOWN = 10
COUNT_COLUMNS = ("documents", "now", "then", "change", "left out", "still there")
NEXT_STEPS = """next steps:
  git add {file} && git commit -m "Take down …"
  dvc repro                  removes these documents from the corpus, and rebuilds everything made from them
  docs/takedown.md           how to remove the old text from DVC's cache, its remote, the registry and an index of earlier runs"""


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="right" if name in COUNT_COLUMNS else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    if title:
        print(title, flush=True)  # as the title of the table it would be wrapped to its width
    make_console().print(table)


def show_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(values, ensure_ascii=False, sort_keys=True))


def show_diff(diff: Diff, n_listed: int) -> None:
    """Print counts by kind, stage and reason, then by source, then `n_listed` examples of each kind."""
    counts = f"{diff.n_before:,} → {diff.n_after:,} documents, {diff.n_both:,} in both"
    print(f"{diff.before} → {diff.after}: {counts}", flush=True)
    groups = [(kind, *row) for kind, frame in diff.kinds.items() for row in count_groups(frame, ["stage", "reason"])]
    if not groups:
        print("the same documents")
        return
    _print_table("", ["kind", "stage", "reason", "documents"], groups)
    sources = [(kind, *row) for kind, frame in diff.kinds.items() for row in count_groups(frame, ["source"])]
    _print_table("by source", ["kind", "source", "documents"], sources)
    for kind, frame in diff.kinds.items():
        examples = frame.head(n_listed).select("id", "title", "stage", "reason").rows()
        if examples:
            _print_table(kind, ["id", "title", "stage", "reason"], examples)


def make_diff_json(diff: Diff, n_listed: int) -> dict[str, Any]:
    """Return what `show_diff` prints as plain values."""
    kinds = {
        kind: {
            "documents": frame.height,
            "by_rule": {f"{stage}: {reason}": n for stage, reason, n in count_groups(frame, ["stage", "reason"])},
            "by_source": dict(count_groups(frame, ["source"])),
            "examples": frame.head(n_listed).to_dicts(),
        }
        for kind, frame in diff.kinds.items()
    }
    both = {"before": diff.before, "after": diff.after, "documents_in_both": diff.n_both}
    return {**both, "documents_before": diff.n_before, "documents_after": diff.n_after, **kinds}


def count_groups(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the groups of equal values in these columns, each with its size, the largest first."""
    return frame.group_by(columns).len().sort("len", *columns, descending=[True, *[False for _ in columns]]).rows()


def show_replay(replay: Replay, titles: Mapping[str, str]) -> None:
    """Print the documents dropped now and then by the first rule that they violate; then examples."""
    changed = ", ".join(f"{name} {now:g} → {then:g}" for name, (now, then) in replay.changed.items())
    n_kept = [replay.n_docs - dropped.total() for dropped in (replay.now, replay.then)]
    rows: list[tuple[object, ...]] = [
        (rule.reason, replay.now[rule.reason], replay.then[rule.reason], _format_change(replay, rule.reason))
        for rule in replay.rules
        if replay.now[rule.reason] or replay.then[rule.reason]
    ]
    _print_table(f"dropped by the first rule violated, with {changed}", ["rule", "now", "then", "change"], rows)
    print(f"{replay.n_docs:,} documents: {n_kept[0]:,} kept now, {n_kept[1]:,} then")
    print(f"newly dropped: {replay.n_newly_dropped:,}, newly kept: {replay.n_newly_kept:,}", flush=True)
    for title, listed in (("newly dropped", replay.newly_dropped), ("newly kept", replay.newly_kept)):
        if listed:
            examples = [(doc_id, titles.get(doc_id, "?"), reason) for doc_id, reason in listed]
            _print_table(title, ["id", "title", "rule"], examples)


def _format_change(replay: Replay, reason: str) -> str:
    return f"{replay.then[reason] - replay.now[reason]:+,}"


def make_replay_json(replay: Replay, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return what `show_replay` prints as plain values."""
    listed = {"newly_dropped": replay.newly_dropped, "newly_kept": replay.newly_kept}
    examples = {
        f"{name}_examples": [{"id": doc_id, "title": titles.get(doc_id, ""), "rule": rule} for doc_id, rule in rows]
        for name, rows in listed.items()
    }
    return {
        "documents": replay.n_docs,
        "changed": {name: {"now": now, "then": then} for name, (now, then) in replay.changed.items()},
        "rules": {r.reason: {"now": replay.now[r.reason], "then": replay.then[r.reason]} for r in replay.rules},
        "newly_dropped": replay.n_newly_dropped,
        "newly_kept": replay.n_newly_kept,
        **examples,
    }


def show_plan(plan: TakedownPlan, n_new: int, file: str, note: str) -> None:
    """Print which documents are removed, which may return in their place, which versions have seen them, and the next steps."""
    n_known = len(plan.stones) - n_new
    print(f"{file}: {n_new:,} new tombstones" + (f", {n_known:,} already present" if n_known else ""))
    print(f"documents of the present corpus that will be removed: {plan.documents.height:,}")
    if not plan.is_checked:
        print("there is no corpus yet: whether these match a document is known after the first run (`takedown --list`)")
    if plan.unmatched:
        shown = ", ".join(stone.key for stone in plan.unmatched[:MAX_SHOWN])
        print(f"match nothing so far: {len(plan.unmatched):,}: {shown}" + " …" * (len(plan.unmatched) > MAX_SHOWN))
    for row in plan.examples.to_dicts():
        print(f"  {row['id']}  {row['title']}  {row['url']}".rstrip())
    if plan.documents.height > plan.examples.height:
        print(f"  … and {plan.documents.height - plan.examples.height:,} more")
    if plan.cluster:
        shown = ", ".join(plan.cluster[:MAX_SHOWN]) + (" …" if len(plan.cluster) > MAX_SHOWN else "")
        print(
            f"duplicates of them that stay, or return in their place (--with-duplicates): {len(plan.cluster):,}: {shown}"
        )
    if all(stone.kind == "id" for stone in plan.stones):
        print("an id stands for exactly this text: a later version of the page is another document; --url covers both")
    for line in _list_sights(plan.sights, note, plan.n_seen) if plan.n_seen else []:
        print(line)
    print(NEXT_STEPS.format(file=file), flush=True)


def _list_sights(sights: Sequence[Sight], note: str, n_documents: int) -> list[str]:
    return ["model versions:", *(f"  {line}" for line in describe_sights(sights, note, n_documents))]


def make_plan_json(plan: TakedownPlan, n_new: int) -> dict[str, Any]:
    """Return what `show_plan` prints as plain values."""
    return {
        "tombstones": [stone._asdict() for stone in plan.stones],
        "new": n_new,
        "documents": plan.documents["id"].to_list(),
        "may_return": plan.cluster,
        "unmatched": [stone.key for stone in plan.unmatched],
        "is_checked": plan.is_checked,
        "versions": {sight.version.number: _make_sight_json(sight) for sight in plan.sights},
    }


def _make_sight_json(sight: Sight) -> dict[str, Any]:
    return {"documents": None if sight.splits is None else len(sight.splits), "note": sight.note}


def show_takedowns(rows: Sequence[TakedownRow], sights: Sequence[Sight], note: str) -> None:
    """Print every tombstone, and the versions that have seen its documents."""
    if not rows:
        print("nothing has been taken down")
        return
    lines = [(r.stone.kind, r.stone.value, r.n_out, r.n_there, r.stone.reason, r.stone.date) for r in rows]
    _print_table(f"{len(rows):,} tombstones", ["kind", "value", "left out", "still there", "reason", "date"], lines)
    if sights or any(row.n_out or row.n_there for row in rows):
        print("\n".join(_list_sights(sights, note, 2)), flush=True)


def make_takedowns_json(rows: Sequence[TakedownRow], sights: Sequence[Sight]) -> dict[str, Any]:
    """Return what `show_takedowns` prints as plain values."""
    stones = [{**row.stone._asdict(), "left_out": row.n_out, "still_there": row.n_there} for row in rows]
    return {"tombstones": stones, "versions": {sight.version.number: _make_sight_json(sight) for sight in sights}}
