"""`takedown`: writes tombstones into data/takedowns.jsonl and says what they will take away, and who has seen it.

In: ids, URLs, domains, licenses, and a `DataSnapshot` of the data as it is. Out: the file with the new tombstones (sorted, so that two
people's merge), and a `TakedownPlan`: the documents that go, the members of their clusters that may return, the model versions that had
seen them. Memory: the documents that go; time: one pass over URLs or licenses, milliseconds for ids.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipeline.download.tombstones import KINDS, REASON, Tombstone, make_tombstone, match, needs, parse, prepare, render
from pipeline.frame.errors import UserError
from pipeline.ledger.find import COLUMNS, ID, by_ids, by_prefix
from pipeline.ledger.life import members
from pipeline.ledger.places import FIRST, DataSnapshot, folder_out
from pipeline.ledger.versions import RegisteredVersions, Sight
from pipeline.storage.tables import scan_docs, scan_table

TAKEDOWNS = Path("data/takedowns.jsonl")


ASKED = ["id", "url", "license"]
EXAMPLES = 10


@dataclass(frozen=True)
class TakedownPlan:
    """What tombstones mean for the data as it is now."""

    stones: list[Tombstone]
    documents: pl.DataFrame  # that go, by id
    examples: pl.DataFrame  # the first of them, with title and URL
    cluster: list[str]  # other members of their clusters, which may return in their place
    sights: list[Sight]  # of these documents, and of those that have gone before
    n_seen: int


def read_stones(path: Path) -> list[Tombstone]:
    """The tombstones of the file; none if there is no file."""
    return parse(path.read_text(encoding="utf-8"), str(path)) if path.exists() else []


def read_list(path: Path, reason: str, date: str) -> list[Tombstone]:
    """A file of what to take down: a line is an id, a URL, `domain:example.org`, `license:…`, or a tombstone as JSON."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"takedown: {path} can't be read", str(error), "give a text file, one document a line"
        ) from error
    return [
        _listed(line.strip(), f"{path}:{number}", reason, date)
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]


def _listed(line: str, place: str, reason: str, date: str) -> Tombstone:
    if line.startswith("{"):
        [stone] = parse(line, place)
        return stone._replace(reason=stone.reason or reason, date=stone.date or date)
    kind, has_kind, value = line.partition(":")
    if has_kind and kind in KINDS:
        return make_tombstone(kind, value, reason, date)
    if re.fullmatch(r"[0-9a-fA-F]{32}", line):
        return make_tombstone("id", line, reason, date)
    if "://" in line:
        return make_tombstone("url", line, reason, date)
    raise UserError(f"takedown: {place}: what is it?", line[:80], "write an id, a URL, domain:NAME or license:NAME")


def whole_id(data: DataSnapshot, query: str) -> str:
    """An id from its first digits. Raises `UserError` if no document, or more than one, begins so."""
    query = query.lower()
    found = by_prefix(data.collected, query) if ID.fullmatch(query) and data.collected.exists() else []
    if len(found) == 1 or len(query) == 32:
        return found[0]["id"] if found else query
    raise UserError(
        f"takedown: {query!r} is not the id of one document",
        f"{len(found)} documents in {data.collected}",
        "give the id that `why` shows, or --url, --domain, --license",
    )


def plan(
    data: DataSnapshot,
    stones: Sequence[Tombstone],
    registry: RegisteredVersions,
    before: Sequence[Tombstone] = (),
    *,
    with_duplicates: bool,
) -> TakedownPlan:
    """What these tombstones take away beside those of `before`; with duplicates, the whole clusters of these documents are
    taken down too."""
    stones, is_collected = list(stones), data.collected.exists()
    documents = (
        covered(data.collected, stones) if is_collected else pl.DataFrame(schema=dict.fromkeys(ASKED, pl.String))
    )
    cluster = clusters(data, documents["id"].to_list())
    if with_duplicates and stones and cluster:
        reason, date = stones[0].reason, stones[0].date
        stones += [make_tombstone("id", doc_id, reason, date) for doc_id in cluster]
        documents = pl.concat([documents, by_ids(data.collected, cluster, ASKED)]).unique("id").sort("id")
        cluster = []
    elif cluster:
        cluster = _may_return(data, cluster, before)
    asked = [stone.value for stone in stones if stone.kind == "id"]
    ids = sorted({*documents["id"].to_list(), *asked, *remembered(registry, stones)})
    first = documents["id"].head(EXAMPLES).to_list()
    examples = by_ids(data.collected, first, COLUMNS) if first else documents
    return TakedownPlan(stones, documents.select("id"), examples, cluster, registry.saw(ids) if ids else [], len(ids))


def _may_return(data: DataSnapshot, ids: Sequence[str], before: Sequence[Tombstone]) -> list[str]:
    """Those of these documents that are in this corpus, not only in an index of earlier runs, and not taken down already."""
    there = by_ids(data.collected, ids, ASKED)
    return there.filter(pl.Series(_keys(there, before), dtype=pl.String).is_null())["id"].to_list()


def covered(docs: Path, stones: Sequence[Tombstone]) -> pl.DataFrame:
    """The documents that these tombstones cover: id, URL, license. Only the columns that are asked for are read of all."""
    parts = [by_ids(docs, [stone.value for stone in stones if stone.kind == "id"], ASKED)]
    others = [stone for stone in stones if stone.kind != "id"]
    if others:
        is_read = {
            "url": any(stone.kind != "license" for stone in others),
            "license": any(stone.kind == "license" for stone in others),
        }
        columns = [pl.col(name) if is_read.get(name, True) else pl.lit("").alias(name) for name in ASKED]
        likely = scan_docs(docs).filter(_perhaps(docs, others)).select(columns).collect(engine="streaming")
        parts.append(likely.filter(pl.Series(_keys(likely, others), dtype=pl.String).is_not_null()))
    return pl.concat(parts).unique("id").sort("id")


def remembered(registry: RegisteredVersions, stones: Sequence[Tombstone]) -> set[str]:
    """Ids of the documents that URLs, domains and licenses cover in what registered versions had collected, as far as DVC's
    cache still has it: another text stood at a URL then."""
    others, found = [stone for stone in stones if stone.kind != "id"], set[str]()
    collected = {folder_out(version.made, FIRST)["md5"] for version in registry.versions} if others else set[str]()
    for md5 in sorted(collected - {"", registry.here(FIRST)}):
        with tempfile.TemporaryDirectory(prefix="minigpt-ledger-") as links:
            if registry.cache.link(md5, Path(links) / FIRST) is None:
                found |= set(covered(Path(links) / FIRST, others)["id"].to_list())
    return found


def _keys(documents: pl.DataFrame, stones: Sequence[Tombstone]) -> list[str | None]:
    columns = {name: pa.array(documents[name].to_list(), pa.string()) for name in ("id", "url", "license")}
    return match(pa.record_batch(columns), prepare(stones)).to_pylist()


def _perhaps(docs: Path, stones: Sequence[Tombstone]) -> pl.Expr:
    """A quick condition that leaves out no document that these tombstones cover: the host stands somewhere in the URL."""
    tests: list[pl.Expr] = [pl.lit(False)]
    names = [re.split("[/?:]", stone.value)[0] for stone in stones if stone.kind in ("url", "domain")]
    if names:
        tests.append(pl.col("url").str.contains_any(sorted(set(names)), ascii_case_insensitive=True))
    if any("xn--" in name for name in names):  # which has another spelling in other letters
        tests.append(pl.col("url").str.contains(r"[^\x00-\x7F]"))
    licenses = [stone.value for stone in stones if stone.kind == "license"]
    if licenses:
        known: list[str] = scan_docs(docs).select("license").unique().collect(engine="streaming")["license"].to_list()
        tests.append(pl.col("license").is_in([each for each in known if any(needs(each, name) for name in licenses)]))
    return pl.any_horizontal(tests)


def clusters(data: DataSnapshot, ids: Sequence[str]) -> list[str]:
    """The other documents of the duplicate clusters that these documents are in."""
    found: set[str] = set()
    for folder in list(data.docs.values())[1:]:
        path = folder / "ledger.parquet"
        if not path.exists() or not ids:
            continue
        wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String})
        rows = scan_table(path).filter(pl.col("decision") == "dropped").join(wanted, on="id", how="semi")
        survivors = {each for each in rows.select("other_id").collect(engine="streaming")["other_id"] if is_id(each)}
        found |= survivors | set(members(folder, sorted(survivors | set(ids))))
    return sorted(found - set(ids))


def is_id(text: str) -> bool:
    """Whether it is the whole id of a document."""
    return len(text) == 32 and ID.fullmatch(text) is not None


def write(path: Path, new: Sequence[Tombstone]) -> int:
    """Adds tombstones to the file, whole or not at all; returns how many were new."""
    old = read_stones(path)
    n_new = len({stone.key for stone in new} - {stone.key for stone in old})
    text = render([*old, *new])
    if n_new or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return n_new


@dataclass(frozen=True)
class Listed:
    """A tombstone with the documents that it has kept out, and those that are still there."""

    stone: Tombstone
    n_out: int
    n_there: int


def listing(
    data: DataSnapshot, stones: Sequence[Tombstone], registry: RegisteredVersions
) -> tuple[list[Listed], list[Sight]]:
    """Every tombstone of the file, and the versions that had seen any of their documents, also those that are nowhere now."""
    ledger = data.collected / "ledger.parquet"
    gone = pl.DataFrame(schema={"id": pl.String, "other_id": pl.String})
    if ledger.exists():
        gone = scan_table(ledger).filter(pl.col("reason") == REASON).select("id", "other_id").unique().collect()
    there = covered(data.collected, stones) if data.collected.exists() and stones else gone.clear()
    now = Counter(_keys(there, stones) if there.height else [])
    out = Counter(gone["other_id"].to_list())
    asked = [stone.value for stone in stones if stone.kind == "id"]
    ids = sorted({*gone["id"].to_list(), *there["id"].to_list(), *asked, *remembered(registry, stones)})
    rows = [Listed(stone, out[stone.key], now[stone.key]) for stone in stones]
    return rows, registry.saw(ids) if ids else []
