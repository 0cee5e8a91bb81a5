"""Find the documents that a query means: by id, title, URL, locator or a piece of text, in this order.

In: the folder of the collected documents, and a query as typed. Out: documents without their text, the best matches first. An id
takes milliseconds (files are sorted by id), a title, URL or locator one pass over these columns, a text one pass over the texts.
Memory: a batch per core, and `MAX_FOUND` rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.frame.errors import UserError
from pipeline.storage.tables import list_shards, read_rows_between, scan_docs

Row = dict[str, Any]

COLUMNS = ["id", "title", "source", "locator", "url", "license", "is_search_only"]
ID = re.compile(r"[0-9a-f]{6,32}")
AFTER = "g"  # sorts after every hexadecimal digit
MAX_FOUND = 1_000
FEW = 64  # up to so many ids are looked up one by one; for more, one pass over all ids is faster


def find_documents(docs: Path, query: str) -> list[Row]:
    """Return the documents that the query means, at most `MAX_FOUND`; empty if there are none."""
    if ID.fullmatch(query.lower()):
        rows = find_by_prefix(docs, query.lower())
        if rows:
            return rows
    scan, name = scan_docs(docs), re.escape(query)
    title, url, locator = pl.col("title"), pl.col("url"), pl.col("locator")
    by_title = [title == query, title.str.contains(f"(?i)(^|[.]){name}$"), title.str.contains(f"(?i){name}")]
    by_location = [url == query, url.str.contains(query, literal=True), locator.str.contains(query, literal=True)]
    by_text = [pl.col("text").str.contains(query, literal=True)]
    for conditions in (by_location, by_title, by_text) if "://" in query else (by_title, by_location, by_text):
        rank = pl.coalesce(pl.when(is_hit).then(pl.lit(index)) for index, is_hit in enumerate(conditions))
        hits = scan.filter(pl.any_horizontal(conditions)).select(*COLUMNS, rank=rank)
        if len(conditions) > 1:
            hits = hits.bottom_k(MAX_FOUND, by=["rank", "id"])
        rows = hits.head(MAX_FOUND).collect(engine="streaming").sort("rank", "id").to_dicts()
        if rows:
            return [{key: row[key] for key in COLUMNS} for row in rows if row["rank"] == rows[0]["rank"]]
    return []


def find_by_prefix(docs: Path, prefix: str) -> list[Row]:
    """Return the documents whose id starts with `prefix`, at most `MAX_FOUND`."""
    return read_rows_between(list_shards(docs), prefix, prefix + AFTER, COLUMNS)[:MAX_FOUND].to_pylist()


def read_rows(path: Path, doc_id: str) -> list[Row]:
    """Return the rows of one document in a file that is sorted by id; empty if there is no such file."""
    return read_rows_between([path], doc_id, doc_id + AFTER).to_pylist() if path.exists() else []


def read_titles(docs: Path, ids: Iterable[str]) -> dict[str, str]:
    """Return the title of each of these documents that exists, by id."""
    return {row["id"]: row["title"] for row in read_columns(docs, list(ids), ["id", "title"]).to_dicts()}


def read_columns(docs: Path, ids: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """Return these columns of the documents with these ids, sorted by id."""
    if len(ids) > FEW:
        wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String})
        return scan_docs(docs).select(columns).join(wanted, on="id", how="semi").collect(engine="streaming").sort("id")
    paths = list_shards(docs)
    parts = [_to_polars(read_rows_between(paths, doc_id, doc_id + AFTER, columns)) for doc_id in sorted(set(ids))]
    return pl.concat(parts) if parts else _to_polars(read_rows_between(paths, "", "", columns))


def _to_polars(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def make_not_found_error(docs: Path, query: str) -> UserError:
    """Return the error for a query that matches no document."""
    return UserError(
        f"ledger: no document for {query!r}", f"no match in {docs}", "give an id, a title, a URL, or words of its text"
    )
