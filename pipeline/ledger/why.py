"""`why`: the answer as text, for one document or a list of them, for one that was taken down, for one that only versions remember.

In: a `DataSnapshot`, the tombstones, the registry, and what was typed. Out: lines. Time: that of `find`, and milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.download.tombstones import REASON, Tombstone, match, prepare, render
from pipeline.ledger.find import AFTER, ID, Row, find, nothing
from pipeline.ledger.life import MAX_LISTED, LifeStep, life, said
from pipeline.ledger.places import DataSnapshot, git
from pipeline.ledger.versions import RegisteredVersions, told
from pipeline.storage.tables import rows_between


def why(
    data: DataSnapshot, query: str, stones: Sequence[Tombstone], registry: RegisteredVersions, takedowns: Path
) -> str:
    """One life, or where each of several documents ended. Raises `UserError` if nothing is known."""
    found = find(data.collected, query) or dropped_first(data, query)
    if len(found) == 1:
        return "\n".join(_one(data, found[0], stones, registry, takedowns))
    if found:
        lines = [f"{doc['id']}  {doc['title']}  {_end(data, doc, stones)}" for doc in found[:MAX_LISTED]]
        more = [f"… and {len(found) - MAX_LISTED:,} more"] if len(found) > MAX_LISTED else []
        return "\n".join([f"{len(found):,} documents match; ask again with the id of one:", *lines, *more])
    lines = [f"taken down: {said(key, stones)}{committed(takedowns, stones, key)}" for key in covering(query, stones)]
    if not lines and len(query) == 32 and ID.fullmatch(query):
        sights = registry.saw([query])
        lines = told(sights, registry.note) if any(sight.splits for sight in sights) else []
    if not lines:
        raise nothing(data.collected, query)
    return "\n".join([f"{query}: no such document in {data.collected}", *lines])


def _one(
    data: DataSnapshot, doc: Row, stones: Sequence[Tombstone], registry: RegisteredVersions, takedowns: Path
) -> list[str]:
    steps = life(data, doc, stones)
    key = _tombstone(data, doc)
    if key:
        steps.append(LifeStep("", "", committed(takedowns, stones, key).removeprefix(", ")))
    else:
        steps += [
            LifeStep(
                "takedown",
                "pending",
                f"{said(each, stones)}{committed(takedowns, stones, each)}; dvc repro takes it out",
            )
            for each in covering(doc["id"], stones, doc)
        ]
    seen = told(registry.saw([doc["id"]]), registry.note)
    steps += [LifeStep("models" if not place else "", "", line) for place, line in enumerate(seen)]
    width = [max(len(step[i]) for step in steps) for i in (0, 1)]
    lines = [f"{step.stage:{width[0]}}  {step.decision:{width[1]}}  {step.detail}".rstrip() for step in steps]
    return [f"{doc['title']}  {doc['id']}".strip(), *[line for line in lines if line]]


def dropped_first(data: DataSnapshot, query: str) -> list[Row]:
    """Documents that the first stage left out: nothing but their ledger rows is left."""
    path = data.collected / "ledger.parquet"
    if not ID.fullmatch(query) or not path.exists():
        return []
    ids = sorted(set(rows_between([path], query, query + AFTER, ["id"]).column("id").to_pylist()))
    return [{"id": doc_id, "title": "", "source": "", "locator": "", "url": "", "license": ""} for doc_id in ids]


def _tombstone(data: DataSnapshot, doc: Row) -> str:
    path = data.collected / "ledger.parquet"
    rows = rows_between([path], doc["id"], doc["id"] + AFTER).to_pylist() if path.exists() else []
    return next((row["other_id"] for row in rows if row["reason"] == REASON), "")


def covering(query: str, stones: Sequence[Tombstone], doc: Row | None = None) -> list[str]:
    """The tombstone that covers a document, or an id, URL or domain as it was typed."""
    row = doc or {"id": query, "url": query, "license": ""}
    batch = pa.record_batch({name: pa.array([row[name]], pa.string()) for name in ("id", "url", "license")})
    return [key for key in match(batch, prepare(stones)).to_pylist() if key]


def committed(takedowns: Path, stones: Sequence[Tombstone], key: str) -> str:
    """Who put the tombstone into Git, and when."""
    lines = [stone.key for stone in stones]
    if key not in lines or not takedowns.exists():
        return ""
    line = render([stones[lines.index(key)]]).strip()
    texts = [text.strip() for text in takedowns.read_text(encoding="utf-8").split("\n")]
    number = texts.index(line) + 1 if line in texts else 0
    blamed = git(takedowns.parent, "blame", "--line-porcelain", f"-L{number},{number}", "--", takedowns.name)
    if not number or not blamed or blamed.startswith("0" * 40):
        return ", not committed yet"
    author = next((text.removeprefix("author ") for text in blamed.splitlines() if text.startswith("author ")), "?")
    return f", by {author} in commit {blamed[:12]}"


def _end(data: DataSnapshot, doc: Row, stones: Sequence[Tombstone]) -> str:
    step = [step for step in life(data, doc, stones, is_brief=True) if step.stage][-1]
    return f"{step.stage}: {step.decision} {step.detail.partition(';')[0]}".rstrip()
