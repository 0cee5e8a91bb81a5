"""What the ledger says on a terminal, as tables, and as JSON. In: a `Diff`, a `Replay`, a `TakedownPlan`. Out: lines on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from pipeline.ledger.diff import Diff
from pipeline.ledger.replay import Replay
from pipeline.ledger.takedown import Listed, TakedownPlan
from pipeline.ledger.versions import Sight, told
from pipeline.registry.listing import make_console

MAX_SHOWN = 10
NEXT = """next:
  git add {file} && git commit -m "Take down …"
  dvc repro                  leaves these documents out from now on, and makes what came of them again
  docs/takedown.md           how the old text leaves DVC's cache, its remote, the registry and an index of earlier runs"""


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="right" if name in ("documents", "now", "then", "change") else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    make_console().print(table)


def show_json(values: Mapping[str, Any]) -> None:
    """One JSON object as one line."""
    print(json.dumps(values, ensure_ascii=False, sort_keys=True))


def show_diff(found: Diff, n_listed: int) -> None:
    """Counts by kind, stage and reason, then by source, then examples."""
    print(
        f"{found.before} → {found.after}: {found.n_before:,} → {found.n_after:,} documents, {found.n_both:,} in both",
        flush=True,
    )
    groups = [(kind, *row) for kind, frame in found.kinds.items() for row in counts(frame, ["stage", "reason"])]
    if not groups:
        print("the same documents")
        return
    _table("", ["", "stage", "reason", "documents"], groups)
    sources = [(kind, *row) for kind, frame in found.kinds.items() for row in counts(frame, ["source"])]
    _table("by source", ["", "source", "documents"], sources)
    for kind, frame in found.kinds.items():
        examples = frame.head(n_listed).select("id", "title", "stage", "reason").rows()
        if examples:
            _table(kind, ["id", "title", "stage", "reason"], examples)


def diff_json(found: Diff, n_listed: int) -> dict[str, Any]:
    """The same as plain values."""
    kinds = {
        kind: {
            "documents": frame.height,
            "by_rule": {f"{stage}: {reason}": n for stage, reason, n in counts(frame, ["stage", "reason"])},
            "by_source": dict(counts(frame, ["source"])),
            "examples": frame.head(n_listed).to_dicts(),
        }
        for kind, frame in found.kinds.items()
    }
    both = {"before": found.before, "after": found.after, "documents_in_both": found.n_both}
    return {**both, "documents_before": found.n_before, "documents_after": found.n_after, **kinds}


def counts(frame: pl.DataFrame, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Groups and their sizes, the largest first."""
    return frame.group_by(columns).len().sort("len", *columns, descending=[True, *[False for _ in columns]]).rows()


def show_replay(found: Replay, known: Mapping[str, str]) -> None:
    """Dropped now and then by the first rule that a document breaks; then examples."""
    changed = ", ".join(f"{name} {now:g} → {then:g}" for name, (now, then) in found.changed.items())
    kept = [found.n_docs - dropped.total() for dropped in (found.now, found.then)]
    rows: list[tuple[object, ...]] = [
        (rule.reason, found.now[rule.reason], found.then[rule.reason], _signed(found, rule.reason))
        for rule in found.rules
        if found.now[rule.reason] or found.then[rule.reason]
    ]
    _table(f"dropped by the first rule broken, with {changed}", ["rule", "now", "then", "change"], rows)
    print(f"{found.n_docs:,} documents: {kept[0]:,} kept now, {kept[1]:,} then")
    print(f"newly dropped {found.n_newly_dropped:,}, newly kept {found.n_newly_kept:,}", flush=True)
    for title, listed in (("newly dropped", found.newly_dropped), ("newly kept", found.newly_kept)):
        if listed:
            examples = [(doc_id, known.get(doc_id, "?"), reason) for doc_id, reason in listed]
            _table(title, ["id", "title", "rule"], examples)


def _signed(found: Replay, reason: str) -> str:
    return f"{found.then[reason] - found.now[reason]:+,}"


def replay_json(found: Replay, known: Mapping[str, str]) -> dict[str, Any]:
    """The same as plain values."""
    listed = {"newly_dropped": found.newly_dropped, "newly_kept": found.newly_kept}
    examples = {
        f"{name}_examples": [{"id": doc_id, "title": known.get(doc_id, ""), "rule": rule} for doc_id, rule in rows]
        for name, rows in listed.items()
    }
    return {
        "documents": found.n_docs,
        "changed": {name: {"now": now, "then": then} for name, (now, then) in found.changed.items()},
        "rules": {r.reason: {"now": found.now[r.reason], "then": found.then[r.reason]} for r in found.rules},
        "newly_dropped": found.n_newly_dropped,
        "newly_kept": found.n_newly_kept,
        **examples,
    }


def show_plan(made: TakedownPlan, n_new: int, file: str, note: str) -> None:
    """What goes, what may return, who has seen it, what to do next."""
    n_known = len(made.stones) - n_new
    print(f"{file}: {n_new:,} new tombstones" + (f", {n_known:,} were there before" if n_known else ""))
    print(f"{made.documents.height:,} documents of the present corpus go:")
    for row in made.examples.to_dicts():
        print(f"  {row['id']}  {row['title']}  {row['url']}".rstrip())
    if made.documents.height > made.examples.height:
        print(f"  … and {made.documents.height - made.examples.height:,} more")
    if made.cluster:
        shown = ", ".join(made.cluster[:MAX_SHOWN]) + (" …" if len(made.cluster) > MAX_SHOWN else "")
        print(f"{len(made.cluster):,} duplicates of them stay, or return in their place (--with-duplicates): {shown}")
    if all(stone.kind == "id" for stone in made.stones):
        print("an id names this very text: a later version of the page is another document; --url covers both")
    for line in _seen(made.sights, note, made.n_seen) if made.n_seen else []:
        print(line)
    print(NEXT.format(file=file), flush=True)


def _seen(sights: Sequence[Sight], note: str, n_documents: int) -> list[str]:
    return ["model versions:", *(f"  {line}" for line in told(sights, note, n_documents))]


def plan_json(made: TakedownPlan, n_new: int) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "tombstones": [stone._asdict() for stone in made.stones],
        "new": n_new,
        "documents": made.documents["id"].to_list(),
        "may_return": made.cluster,
        "versions": {sight.version.number: _sight(sight) for sight in made.sights},
    }


def _sight(sight: Sight) -> dict[str, Any]:
    return {"documents": None if sight.splits is None else len(sight.splits), "note": sight.note}


def show_listing(rows: Sequence[Listed], sights: Sequence[Sight], note: str) -> None:
    """Every tombstone, and the versions that had seen its documents."""
    if not rows:
        print("nothing has been taken down")
        return
    lines = [(r.stone.kind, r.stone.value, r.n_out, r.n_there, r.stone.reason, r.stone.date) for r in rows]
    _table(f"{len(rows):,} tombstones", ["kind", "value", "left out", "still there", "reason", "date"], lines)
    if sights or any(row.n_out or row.n_there for row in rows):
        print("\n".join(_seen(sights, note, 2)), flush=True)


def listing_json(rows: Sequence[Listed], sights: Sequence[Sight]) -> dict[str, Any]:
    """The same as plain values."""
    stones = [{**row.stone._asdict(), "left_out": row.n_out, "still_there": row.n_there} for row in rows]
    return {"tombstones": stones, "versions": {sight.version.number: _sight(sight) for sight in sights}}
