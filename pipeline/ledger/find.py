"""Which documents does a person mean? By id, title, URL, locator or a piece of text, in this order.

In: the folder of collected documents, and what was typed. Out: documents without their text, the best matches first. An id takes
milliseconds (files are sorted by id), a title, URL or locator one pass over these columns, a text one pass over the texts.
Memory: a batch for each core, and `MAX_FOUND` rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.frame.errors import UserError
from pipeline.storage.tables import rows_between, scan_docs, shard_paths

Row = dict[str, Any]

COLUMNS = ["id", "title", "source", "locator", "url", "license"]
ID = re.compile(r"[0-9a-f]{6,32}")
AFTER = "g"  # behind every hex digit
MAX_FOUND = 1_000
FEW = 64  # ids that are looked up one by one; for more, one pass over all ids is faster


def find(docs: Path, query: str) -> list[Row]:
    """The documents that the query means, at most `MAX_FOUND`; none if there are none."""
    if ID.fullmatch(query.lower()):
        found = by_prefix(docs, query.lower())
        if found:
            return found
    scan, name = scan_docs(docs), re.escape(query)
    title, url, locator = pl.col("title"), pl.col("url"), pl.col("locator")
    by_title = [title == query, title.str.contains(f"(?i)(^|[.]){name}$"), title.str.contains(f"(?i){name}")]
    by_place = [url == query, url.str.contains(query, literal=True), locator.str.contains(query, literal=True)]
    by_text = [pl.col("text").str.contains(query, literal=True)]
    for ranks in (by_place, by_title, by_text) if "://" in query else (by_title, by_place, by_text):
        rank = pl.coalesce(pl.when(is_hit).then(pl.lit(place)) for place, is_hit in enumerate(ranks))
        hits = scan.filter(pl.any_horizontal(ranks)).select(*COLUMNS, rank=rank)
        if len(ranks) > 1:
            hits = hits.bottom_k(MAX_FOUND, by=["rank", "id"])
        rows = hits.head(MAX_FOUND).collect(engine="streaming").sort("rank", "id").to_dicts()
        if rows:
            return [{key: row[key] for key in COLUMNS} for row in rows if row["rank"] == rows[0]["rank"]]
    return []


def by_prefix(docs: Path, prefix: str) -> list[Row]:
    """Documents whose id begins so."""
    return rows_between(shard_paths(docs), prefix, prefix + AFTER, COLUMNS)[:MAX_FOUND].to_pylist()


def rows_of(path: Path, doc_id: str) -> list[Row]:
    """The rows of one document in a file that is sorted by id; none where there is no such file."""
    return rows_between([path], doc_id, doc_id + AFTER).to_pylist() if path.exists() else []


def titles(docs: Path, ids: Iterable[str]) -> dict[str, str]:
    """Title of each of these documents that there is."""
    return {row["id"]: row["title"] for row in by_ids(docs, list(ids), ["id", "title"]).to_dicts()}


def by_ids(docs: Path, ids: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """These documents, sorted by id."""
    if len(ids) > FEW:
        wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String})
        return scan_docs(docs).select(columns).join(wanted, on="id", how="semi").collect(engine="streaming").sort("id")
    paths = shard_paths(docs)
    parts = [frame(rows_between(paths, doc_id, doc_id + AFTER, columns)) for doc_id in sorted(set(ids))]
    return pl.concat(parts) if parts else frame(rows_between(paths, "", "", columns))


def frame(table: Any) -> pl.DataFrame:
    """An Arrow table as a polars frame."""
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made


def nothing(docs: Path, query: str) -> UserError:
    """The error for a query that means no document."""
    return UserError(
        f"ledger: no document for {query!r}", f"none in {docs}", "give an id, a title, a URL, or words of its text"
    )
