"""`diff`: which documents two states of the data have apart, and by which rule.

In: two `DataSnapshot`s. Out: documents added, lost, rewritten (another text from the same place in the same source) and edited (the
same document, changed otherwise by a rule), each with the stage and the reason. Ids are compared range by range; sources and
titles are read only of the documents that differ. Memory: `RANGE_DOCS` ids of both sides, and the documents that differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.ledger.find import by_ids
from pipeline.ledger.places import DataSnapshot
from pipeline.storage.tables import count_docs, scan_docs, scan_table

RANGE_DOCS = 2_000_000
PLACE = ["source", "locator"]
ABOUT = ["id", *PLACE, "title"]
UNSEEN = {"added": "newly collected", "lost": "no longer collected"}


@dataclass(frozen=True)
class Diff:
    """What differs. Frames have a row a document: id, source, title, stage and reason; rewritten ones `new_id` too."""

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
        """Documents with the same id on both sides."""
        return self.n_before - self.lost.height - self.rewritten.height

    @property
    def kinds(self) -> dict[str, pl.DataFrame]:
        return {"added": self.added, "lost": self.lost, "rewritten": self.rewritten, "edited": self.edited}


def diff(a: DataSnapshot, b: DataSnapshot, range_docs: int = RANGE_DOCS) -> Diff:
    """Compares the documents that two models would be made of."""
    counts = count_docs(a.final), count_docs(b.final)
    gone, come = apart(a.final, b.final, max(1, -(-max(counts) // range_docs)))
    lost, added = by_ids(a.final, gone, ABOUT), by_ids(b.final, come, ABOUT)
    pairs = lost.join(added.select("id", *PLACE).rename({"id": "new_id"}), on=PLACE, how="inner")
    pairs = pairs.sort("id", "new_id").unique("id", keep="first", maintain_order=True)
    pairs = pairs.unique("new_id", keep="first", maintain_order=True)
    lost = lost.join(pairs, on="id", how="anti", maintain_order="left")
    added = added.join(pairs.select(id="new_id"), on="id", how="anti", maintain_order="left")
    rewritten = pairs.with_columns(stage=pl.lit(next(iter(b.folders))), reason=pl.lit("another text"))
    return Diff(
        a.name,
        b.name,
        *counts,
        _explained(added, a, "added"),
        _explained(lost, b, "lost"),
        rewritten.select("id", "new_id", "source", "title", "stage", "reason"),
        edited(a, b),
    )


def apart(a: Path, b: Path, n_ranges: int) -> tuple[list[str], list[str]]:
    """Ids that only `a` has, and those that only `b` has."""
    gone: list[str] = []
    come: list[str] = []
    for place in range(n_ranges):
        ids = [_ids(folder, place, n_ranges) for folder in (a, b)]
        for found, (mine, other) in ((gone, (ids[0], ids[1])), (come, (ids[1], ids[0]))):
            found += mine.join(other, on="id", how="anti")["id"].sort().to_list()
    return gone, come


def _ids(folder: Path, place: int, n_ranges: int) -> pl.DataFrame:
    """The ids of one of `n_ranges` equal parts of all possible ids, which are hashes."""
    scan = scan_docs(folder).select("id")
    if place > 0:
        scan = scan.filter(pl.col("id") >= f"{place * 16**8 // n_ranges:08x}")
    if place < n_ranges - 1:
        scan = scan.filter(pl.col("id") < f"{(place + 1) * 16**8 // n_ranges:08x}")
    return scan.collect(engine="streaming")


def _explained(docs: pl.DataFrame, other: DataSnapshot, kind: str) -> pl.DataFrame:
    """With the stage and the reason for which the other side does not have them."""
    known = dropped(other, docs["id"].to_list())
    dark = docs.join(known, on="id", how="anti", maintain_order="left")
    there = by_ids(other.collected, dark["id"].to_list(), ["id"])
    known = pl.concat([known, _said(there["id"].to_list(), other, "collected, but its stages have not run")])
    known = pl.concat([known, _in_another_text(dark.join(there, on="id", how="anti"), other)])
    known = known.unique("id", keep="first", maintain_order=True)
    rest = docs.join(known, on="id", how="anti")["id"].to_list()
    known = pl.concat([known, _said(rest, other, UNSEEN[kind])])
    return docs.drop("locator").join(known, on="id", how="left", maintain_order="left")


def dropped(data: DataSnapshot, ids: list[str]) -> pl.DataFrame:
    """id, stage and reason of those of these documents that were dropped."""
    wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String})
    rows = [
        scan_table(path)
        .filter((pl.col("decision") == "dropped") & (pl.col("reason") != "duplicate_id"))
        .select("id", "stage", "reason")
        .join(wanted, on="id", how="semi")
        .collect(engine="streaming")
        for path in _ledgers(data)
        if ids
    ]
    return pl.concat([_said([], data, ""), *rows]).sort("id", maintain_order=True).unique("id", maintain_order=True)


def _said(ids: list[str], data: DataSnapshot, reason: str) -> pl.DataFrame:
    first = next(iter(data.folders))
    return pl.DataFrame({"id": ids}, schema={"id": pl.String}).with_columns(stage=pl.lit(first), reason=pl.lit(reason))


def _in_another_text(docs: pl.DataFrame, other: DataSnapshot) -> pl.DataFrame:
    """Of documents whose place holds another text on the other side: why that one is not in its final corpus."""
    if not docs.height:
        return _said([], other, "")
    places = docs.lazy().select(*PLACE)
    scan = scan_docs(other.collected).select("id", *PLACE)
    texts = scan.join(places, on=PLACE, how="semi").collect(engine="streaming").rename({"id": "new_id"})
    pairs = docs.select("id", *PLACE).join(texts, on=PLACE, how="inner").sort("id", "new_id")
    why = dropped(other, pairs["new_id"].to_list()).rename({"id": "new_id"})
    found = pairs.join(why, on="new_id", how="inner", maintain_order="left").select("id", "stage", "reason")
    return found.with_columns(pl.col("reason") + " (of another text at this place)")


def _ledgers(data: DataSnapshot) -> list[Path]:
    return [path for folder in data.docs.values() if (path := folder / "ledger.parquet").exists()]


def edited(a: DataSnapshot, b: DataSnapshot) -> pl.DataFrame:
    """Documents of both sides whose text a rule has changed in other places than before."""
    before, after = _changes(a), _changes(b)
    keys = ["id", "stage", "reason"]
    both = before.join(after, on=keys, how="full", coalesce=True, suffix="_after").fill_null(0.0)
    ids = both.filter(pl.col("value") != pl.col("value_after")).select(keys).sort(keys)
    here = by_ids(b.final, ids["id"].unique().to_list(), ["id", "source", "title"])
    there = by_ids(a.final, here["id"].to_list(), ["id"])
    joined = ids.join(here, on="id", how="inner", maintain_order="left").join(there, on="id", how="semi")
    return joined.select("id", "source", "title", "stage", "reason").sort("id", "stage", "reason")


def _changes(data: DataSnapshot) -> pl.DataFrame:
    parts = [
        scan_table(path).filter(pl.col("decision") == "changed").select("id", "stage", "reason", "value")
        for path in _ledgers(data)
    ]
    none = pl.DataFrame(schema={"id": pl.String, "stage": pl.String, "reason": pl.String, "value": pl.Float64})
    return pl.concat([none, *(part.collect(engine="streaming") for part in parts)])
