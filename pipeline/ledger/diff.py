"""`diff`: find the documents by which two states of the data differ, and the rule behind each difference.

In: two `DataSnapshot`s. Out: documents added, lost, rewritten (another text from the same location in the same source) and edited
(the same document, changed otherwise by a rule), each with stage and reason. Ids are compared range by range; sources and titles
are read only for the documents that differ. Memory: `RANGE_DOCS` ids of both sides, and the documents that differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.ledger.find import read_columns
from pipeline.ledger.places import DataSnapshot
from pipeline.storage.tables import count_docs, scan_docs, scan_table

RANGE_DOCS = 2_000_000
LOCATION = ["source", "locator"]
ABOUT = ["id", *LOCATION, "title"]
NOT_COLLECTED = {"added": "newly collected", "lost": "no longer collected"}


@dataclass(frozen=True)
class Diff:
    """The differences. Frames have a row per document: id, source, title, stage and reason; rewritten ones also `new_id`."""

    before: str
    after: str
    n_before: int
    n_after: int
    added: pl.DataFrame
    lost: pl.DataFrame
    rewritten: pl.DataFrame
    edited: pl.DataFrame

    @property
    def n_both(self) -> int:
        """The number of documents with the same id on both sides."""
        return self.n_before - self.lost.height - self.rewritten.height

    @property
    def kinds(self) -> dict[str, pl.DataFrame]:
        """The frames by name."""
        return {"added": self.added, "lost": self.lost, "rewritten": self.rewritten, "edited": self.edited}


def compare_snapshots(a: DataSnapshot, b: DataSnapshot, range_docs: int = RANGE_DOCS) -> Diff:
    """Compare the documents that models of the two states are trained on."""
    counts = count_docs(a.final), count_docs(b.final)
    only_a, only_b = find_differing_ids(a.final, b.final, max(1, -(-max(counts) // range_docs)))
    lost, added = read_columns(a.final, only_a, ABOUT), read_columns(b.final, only_b, ABOUT)
    pairs = lost.join(added.select("id", *LOCATION).rename({"id": "new_id"}), on=LOCATION, how="inner")
    pairs = pairs.sort("id", "new_id").unique("id", keep="first", maintain_order=True)
    pairs = pairs.unique("new_id", keep="first", maintain_order=True)
    lost = lost.join(pairs, on="id", how="anti", maintain_order="left")
    added = added.join(pairs.select(id="new_id"), on="id", how="anti", maintain_order="left")
    rewritten = pairs.with_columns(stage=pl.lit(next(iter(b.folders))), reason=pl.lit("another text"))
    return Diff(
        a.name,
        b.name,
        *counts,
        _add_reasons(added, a, "added"),
        _add_reasons(lost, b, "lost"),
        rewritten.select("id", "new_id", "source", "title", "stage", "reason"),
        find_edited(a, b),
    )


def find_differing_ids(a: Path, b: Path, n_ranges: int) -> tuple[list[str], list[str]]:
    """Return the ids that only `a` has, and those that only `b` has, reading one of `n_ranges` ranges of ids at a time."""
    only_a: list[str] = []
    only_b: list[str] = []
    for index in range(n_ranges):
        ids_a, ids_b = (_read_ids(folder, index, n_ranges) for folder in (a, b))
        only_a += ids_a.join(ids_b, on="id", how="anti")["id"].sort().to_list()
        only_b += ids_b.join(ids_a, on="id", how="anti")["id"].sort().to_list()
    return only_a, only_b


def _read_ids(folder: Path, index: int, n_ranges: int) -> pl.DataFrame:
    """Return the ids in one of `n_ranges` equal ranges of all possible ids; ids are hashes, so the ranges are about equal."""
    scan = scan_docs(folder).select("id")
    if index > 0:
        scan = scan.filter(pl.col("id") >= f"{index * 16**8 // n_ranges:08x}")
    if index < n_ranges - 1:
        scan = scan.filter(pl.col("id") < f"{(index + 1) * 16**8 // n_ranges:08x}")
    return scan.collect(engine="streaming")


def _add_reasons(docs: pl.DataFrame, other: DataSnapshot, kind: str) -> pl.DataFrame:
    """Add the stage and the reason why the other side does not have these documents."""
    reasons = read_dropped(other, docs["id"].to_list())
    unexplained = docs.join(reasons, on="id", how="anti", maintain_order="left")
    collected = read_columns(other.collected, unexplained["id"].to_list(), ["id"])
    not_run = _make_reasons(collected["id"].to_list(), other, "collected, but its stages have not run")
    replaced = _explain_replaced(unexplained.join(collected, on="id", how="anti"), other)
    reasons = pl.concat([reasons, not_run, replaced]).unique("id", keep="first", maintain_order=True)
    rest = docs.join(reasons, on="id", how="anti")["id"].to_list()
    reasons = pl.concat([reasons, _make_reasons(rest, other, NOT_COLLECTED[kind])])
    return docs.drop("locator").join(reasons, on="id", how="left", maintain_order="left")


def read_dropped(data: DataSnapshot, ids: list[str]) -> pl.DataFrame:
    """Return id, stage and reason of those of these documents that were dropped."""
    wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String})
    rows = [
        scan_table(path)
        .filter((pl.col("decision") == "dropped") & (pl.col("reason") != "duplicate_id"))
        .select("id", "stage", "reason")
        .join(wanted, on="id", how="semi")
        .collect(engine="streaming")
        for path in _list_ledgers(data)
        if ids
    ]
    empty = _make_reasons([], data, "")
    return pl.concat([empty, *rows]).sort("id", maintain_order=True).unique("id", maintain_order=True)


def _make_reasons(ids: list[str], data: DataSnapshot, reason: str) -> pl.DataFrame:
    first = next(iter(data.folders))
    return pl.DataFrame({"id": ids}, schema={"id": pl.String}).with_columns(stage=pl.lit(first), reason=pl.lit(reason))


def _explain_replaced(docs: pl.DataFrame, other: DataSnapshot) -> pl.DataFrame:
    """Return, for documents whose location has another text on the other side, why that text is not in its final corpus."""
    if not docs.height:
        return _make_reasons([], other, "")
    locations = docs.lazy().select(*LOCATION)
    scan = scan_docs(other.collected).select("id", *LOCATION)
    texts = scan.join(locations, on=LOCATION, how="semi").collect(engine="streaming").rename({"id": "new_id"})
    pairs = docs.select("id", *LOCATION).join(texts, on=LOCATION, how="inner").sort("id", "new_id")
    dropped = read_dropped(other, pairs["new_id"].to_list()).rename({"id": "new_id"})
    reasons = pairs.join(dropped, on="new_id", how="inner", maintain_order="left").select("id", "stage", "reason")
    return reasons.with_columns(pl.col("reason") + " (of another text at this location)")


def _list_ledgers(data: DataSnapshot) -> list[Path]:
    return [path for folder in data.docs.values() if (path := folder / "ledger.parquet").exists()]


def find_edited(a: DataSnapshot, b: DataSnapshot) -> pl.DataFrame:
    """Return the documents of both sides whose text a rule changed to another extent than before."""
    before, after = _read_changes(a), _read_changes(b)
    keys = ["id", "stage", "reason"]
    both = before.join(after, on=keys, how="full", coalesce=True, suffix="_after").fill_null(0.0)
    ids = both.filter(pl.col("value") != pl.col("value_after")).select(keys).sort(keys)
    docs_b = read_columns(b.final, ids["id"].unique().to_list(), ["id", "source", "title"])
    docs_a = read_columns(a.final, docs_b["id"].to_list(), ["id"])
    rows = ids.join(docs_b, on="id", how="inner", maintain_order="left").join(docs_a, on="id", how="semi")
    return rows.select("id", "source", "title", "stage", "reason").sort("id", "stage", "reason")


def _read_changes(data: DataSnapshot) -> pl.DataFrame:
    parts = [
        scan_table(path).filter(pl.col("decision") == "changed").select("id", "stage", "reason", "value")
        for path in _list_ledgers(data)
    ]
    empty = pl.DataFrame(schema={"id": pl.String, "stage": pl.String, "reason": pl.String, "value": pl.Float64})
    return pl.concat([empty, *(part.collect(engine="streaming") for part in parts)])
