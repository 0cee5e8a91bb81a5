"""`why`: explain as text what became of a document, of several, of one that was taken down, or of one that only versions have seen.

In: a `DataSnapshot`, the tombstones, the registry, and a query as typed. Out: lines.
Time: that of `find_documents`, and milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.download.tombstones import REASON, Tombstone, match, prepare, render
from pipeline.frame.provenance import run_git
from pipeline.ledger.find import AFTER, ID, Row, find_documents, make_not_found_error
from pipeline.ledger.life import MAX_LISTED, LifeStep, describe_tombstone, read_life
from pipeline.ledger.places import DataSnapshot
from pipeline.ledger.versions import RegisteredVersions, describe_sights
from pipeline.storage.lines import read_list
from pipeline.storage.tables import read_rows_between


def explain(
    data: DataSnapshot, query: str, stones: Sequence[Tombstone], registry: RegisteredVersions, takedowns: Path
) -> str:
    """Return the history of one document, or the last decision on each of several. Raises `UserError` if none is known."""
    docs = find_documents(data.collected, query) or find_dropped_at_collection(data, query)
    if len(docs) == 1:
        return "\n".join(_explain_one(data, docs[0], stones, registry, takedowns))
    if docs:
        lines = [f"{doc['id']}  {doc['title']}  {_describe_end(data, doc, stones)}" for doc in docs[:MAX_LISTED]]
        more = [f"… and {len(docs) - MAX_LISTED:,} more"] if len(docs) > MAX_LISTED else []
        return "\n".join([f"{len(docs):,} documents match; give the id of one:", *lines, *more])
    lines = [
        f"taken down: {describe_tombstone(key, stones)}{describe_commit(takedowns, stones, key)}"
        for key in find_tombstones(query, stones)
    ]
    if not lines and len(query) == 32 and ID.fullmatch(query):
        sights = registry.find_sights([query])
        lines = describe_sights(sights, registry.note) if any(sight.splits for sight in sights) else []
    if not lines:
        raise make_not_found_error(data.collected, query)
    return "\n".join([f"{query}: no such document in {data.collected}", *lines])


def _explain_one(
    data: DataSnapshot, doc: Row, stones: Sequence[Tombstone], registry: RegisteredVersions, takedowns: Path
) -> list[str]:
    steps = read_life(data, doc, stones)
    key = _read_tombstone_key(data, doc)
    if key:
        steps.append(LifeStep("", "", describe_commit(takedowns, stones, key).removeprefix(", ")))
    for pending in [] if key else find_tombstones(doc["id"], stones, doc):
        description = f"{describe_tombstone(pending, stones)}{describe_commit(takedowns, stones, pending)}"
        steps.append(LifeStep("takedown", "pending", f"{description}; dvc repro removes it"))
    lines = describe_sights(registry.find_sights([doc["id"]]), registry.note)
    steps += [LifeStep("" if index else "models", "", line) for index, line in enumerate(lines)]
    width = [max(len(step[i]) for step in steps) for i in (0, 1)]
    lines = [f"{step.stage:{width[0]}}  {step.decision:{width[1]}}  {step.detail}".rstrip() for step in steps]
    return [f"{doc['title']}  {doc['id']}".strip(), *[line for line in lines if line]]


def find_dropped_at_collection(data: DataSnapshot, query: str) -> list[Row]:
    """Return the documents that the first stage dropped: only their ledger rows are left, so only their ids are known."""
    path = data.collected / "ledger.parquet"
    if not ID.fullmatch(query) or not path.exists():
        return []
    ids = sorted(set(read_rows_between([path], query, query + AFTER, ["id"]).column("id").to_pylist()))
    empty = dict.fromkeys(("title", "source", "locator", "url", "license"), "")
    return [{"id": doc_id, **empty, "is_search_only": False} for doc_id in ids]


def _read_tombstone_key(data: DataSnapshot, doc: Row) -> str:
    path = data.collected / "ledger.parquet"
    rows = read_rows_between([path], doc["id"], doc["id"] + AFTER).to_pylist() if path.exists() else []
    return next((row["other_id"] for row in rows if row["reason"] == REASON), "")


def find_tombstones(query: str, stones: Sequence[Tombstone], doc: Row | None = None) -> list[str]:
    """Return the key of the tombstone that covers a document, or else an id, URL or domain as typed; empty if there is none."""
    row = doc or {"id": query, "url": query, "license": ""}
    batch = pa.record_batch({name: pa.array([row[name]], pa.string()) for name in ("id", "url", "license")})
    return [key for key in match(batch, prepare(stones)).to_pylist() if key]


def describe_commit(takedowns: Path, stones: Sequence[Tombstone], key: str) -> str:
    """Describe who committed the tombstone to Git, and in which commit; empty if it is not in the file."""
    lines = [stone.key for stone in stones]
    if key not in lines or not takedowns.exists():
        return ""
    line = render([stones[lines.index(key)]]).strip()
    number = next((number for number, text in read_list(takedowns) if text == line), 0)
    blame = run_git(takedowns.parent, "blame", "--line-porcelain", f"-L{number},{number}", "--", takedowns.name)
    if not number or not blame or blame.startswith("0" * 40):
        return ", not committed yet"
    author = next((text.removeprefix("author ") for text in blame.splitlines() if text.startswith("author ")), "?")
    return f", by {author} in commit {blame[:12]}"


def _describe_end(data: DataSnapshot, doc: Row, stones: Sequence[Tombstone]) -> str:
    step = [step for step in read_life(data, doc, stones, is_brief=True) if step.stage][-1]
    return f"{step.stage}: {step.decision} {step.detail.partition(';')[0]}".rstrip()
