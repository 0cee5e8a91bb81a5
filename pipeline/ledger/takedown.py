"""`takedown`: write tombstones into data/takedowns.jsonl, and foresee which documents they remove and which versions saw them.

In: ids, URLs, domains, licenses, and a `DataSnapshot` of the present data. Out: the file with the new tombstones (sorted, so that
two branches merge), and a `TakedownPlan`: the documents to be removed, the members of their clusters that may return, the model
versions that have seen them. Memory: the documents to be removed; time: one pass over URLs or licenses, milliseconds for ids.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipeline.download.tombstones import (
    INVISIBLE,
    KINDS,
    REASON,
    SPELLINGS,
    Tombstone,
    make_tombstone,
    match,
    needs,
    parse,
    prepare,
    read_tombstones,
    render,
)
from pipeline.frame.environment import read
from pipeline.frame.errors import UserError
from pipeline.ledger.find import COLUMNS, ID, find_by_prefix, read_columns
from pipeline.ledger.life import list_duplicates
from pipeline.ledger.places import DataSnapshot, get_folder_out, list_text_stages
from pipeline.ledger.versions import RegisteredVersions, Sight
from pipeline.storage import lines
from pipeline.storage.tables import scan_docs, scan_table

TAKEDOWNS = Path("data/takedowns.jsonl")
MATCHED = ["id", "url", "license"]  # columns that tombstones are matched with
NO_DOCUMENTS = pl.DataFrame(schema=dict.fromkeys(MATCHED, pl.String))
MAX_EXAMPLES = 10
MAX_NAMED = 50


@dataclass(frozen=True)
class TakedownPlan:
    """The effect of tombstones on the present data."""

    stones: list[Tombstone]
    documents: pl.DataFrame  # to be removed, by id
    examples: pl.DataFrame  # the first of them, with title and URL
    cluster: list[str]  # other members of their clusters, which may return in their place
    sights: list[Sight]  # of these documents, and of those removed before
    n_seen: int
    unmatched: list[Tombstone]  # cover no document of the corpus, of an earlier run or of a model version
    is_checked: bool  # false if there is no corpus yet, so that nothing can match


@dataclass(frozen=True)
class TakedownRow:
    """A tombstone with the number of documents that it has kept out, and of those that are still there."""

    stone: Tombstone
    n_out: int
    n_there: int


def read_stones(path: Path) -> list[Tombstone]:
    """Return the tombstones of the file; empty if there is no file."""
    return read_tombstones(path) if path.exists() else []


def read_list(path: Path, reason: str, date: str) -> list[Tombstone]:
    """Read a list of documents to take down: a line is an id, a URL, `domain:example.org`, `license:…`, or a JSON tombstone.

    Raises `UserError` for a file that can't be read, or a line of another form.
    """
    entries = [(number, line.strip(INVISIBLE).strip()) for number, line in lines.read_list(path)]
    return [
        _parse_line(line, f"{path}:{number}", reason, date)
        for number, line in entries
        if line and not line.startswith("#")
    ]


def _parse_line(line: str, position: str, reason: str, date: str) -> Tombstone:
    if line.startswith("{"):
        [stone] = parse(line, position)
        return stone._replace(reason=stone.reason or reason, date=stone.date or date)
    kind, has_kind, value = line.partition(":")
    if has_kind and SPELLINGS.get(kind, kind) in KINDS:
        return make_tombstone(kind, value, reason, date)
    if re.fullmatch(r"[0-9a-fA-F]{32}", line):
        return make_tombstone("id", line, reason, date)
    if "://" in line:
        return make_tombstone("url", line, reason, date)
    raise UserError(
        f"takedown: {position}: not a document, domain or license",
        line[:80],
        "write an id, a URL, domain:NAME or license:NAME",
    )


def resolve_id(data: DataSnapshot, query: str) -> str:
    """Return the id that starts with `query`. Raises `UserError` if no document's id does, or more than one."""
    query = query.lower()
    rows = find_by_prefix(data.collected, query) if ID.fullmatch(query) and data.collected.exists() else []
    if len(rows) == 1 or len(query) == 32:
        return rows[0]["id"] if rows else query
    raise UserError(
        f"takedown: {query!r} is not the id of one document",
        f"{len(rows)} documents in {data.collected}",
        "give the id that `why` shows, or --url, --domain, --license",
    )


def plan_takedown(
    data: DataSnapshot,
    stones: Sequence[Tombstone],
    registry: RegisteredVersions,
    existing: Sequence[Tombstone] = (),
    *,
    with_duplicates: bool,
) -> TakedownPlan:
    """Foresee the effect of new tombstones beside the `existing` ones.

    With `with_duplicates`, add tombstones for all members of the duplicate clusters of the documents that they cover.
    """
    stones, is_collected = list(stones), data.collected.exists()
    documents = find_covered(data.collected, stones) if is_collected else NO_DOCUMENTS
    in_versions = find_covered_in_versions(registry, stones)
    asked = list(stones)
    cluster = find_cluster_members(data, documents["id"].to_list())
    if with_duplicates and stones and cluster:
        reason, date = stones[0].reason, stones[0].date
        stones += [make_tombstone("id", doc_id, reason, date) for doc_id in cluster]
        documents = pl.concat([documents, read_columns(data.collected, cluster, MATCHED)]).unique("id").sort("id")
        cluster = []
    elif cluster:
        cluster = _keep_returning(data, cluster, existing)
    named = [stone.value for stone in stones if stone.kind == "id"]
    ids = sorted({*documents["id"].to_list(), *named, *in_versions["id"].to_list()})
    first = documents["id"].head(MAX_EXAMPLES).to_list()
    examples = read_columns(data.collected, first, COLUMNS) if first else documents
    sights = registry.find_sights(ids) if ids else []
    known = {stone.key for stone in existing} | _list_known_keys(data, sights)
    unmatched = find_unmatched(asked, pl.concat([documents, in_versions]), known) if is_collected else []
    return TakedownPlan(stones, documents.select("id"), examples, cluster, sights, len(ids), unmatched, is_collected)


def find_unmatched(stones: Sequence[Tombstone], documents: pl.DataFrame, known: Set[str]) -> list[Tombstone]:
    """Return the tombstones that cover none of these documents, except for those whose keys are known."""
    unmatched = [stone for stone in stones if stone.key not in known]
    while unmatched:  # a document that several tombstones cover is matched with one of them at a time
        keys = set(_match_keys(documents, unmatched))
        if keys <= {None}:
            break
        unmatched = [stone for stone in unmatched if stone.key not in keys]
    return unmatched


def _list_known_keys(data: DataSnapshot, sights: Sequence[Sight]) -> set[str]:
    """Return the keys of tombstones that have removed documents, and of the ids removed or seen by a model version."""
    removed = _read_removed(data)
    seen = {doc_id for sight in sights for doc_id in sight.splits or ()}
    return {*removed["other_id"].to_list(), *(f"id:{doc_id}" for doc_id in {*removed["id"].to_list(), *seen})}


def _read_removed(data: DataSnapshot) -> pl.DataFrame:
    """Return id and tombstone of the documents that have been taken down."""
    path = data.collected / "ledger.parquet"
    if not path.exists():
        return pl.DataFrame(schema={"id": pl.String, "other_id": pl.String})
    return scan_table(path).filter(pl.col("reason") == REASON).select("id", "other_id").unique().collect()


def check_matched(plan: TakedownPlan) -> None:
    """Raise `UserError` that names the tombstones that match nothing."""
    if plan.unmatched:
        names = list(dict.fromkeys(stone.key for stone in plan.unmatched))
        more = f" … and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
        raise UserError(
            f"takedown: {len(plan.unmatched):,} of {len(plan.stones):,} entries match no document; nothing was written",
            ", ".join(names[:MAX_NAMED]) + more,
            "correct their spelling; or record them with --allow-unmatched, for documents that are collected later",
        )


def _keep_returning(data: DataSnapshot, ids: Sequence[str], existing: Sequence[Tombstone]) -> list[str]:
    """Return those of these documents that are in this corpus, not just in an index of earlier runs, and not taken down yet."""
    documents = read_columns(data.collected, ids, MATCHED)
    keys = pl.Series(_match_keys(documents, existing), dtype=pl.String)
    return documents.filter(keys.is_null())["id"].to_list()


def find_covered(docs: Path, stones: Sequence[Tombstone]) -> pl.DataFrame:
    """Return id, URL and license of the documents that these tombstones cover. Only the columns needed are read for all."""
    parts = [read_columns(docs, [stone.value for stone in stones if stone.kind == "id"], MATCHED)]
    others = [stone for stone in stones if stone.kind != "id"]
    if others:
        is_read = {
            "url": any(stone.kind != "license" for stone in others),
            "license": any(stone.kind == "license" for stone in others),
        }
        columns = [pl.col(name) if is_read.get(name, True) else pl.lit("").alias(name) for name in MATCHED]
        candidates = scan_docs(docs).filter(_prefilter(docs, others)).select(columns).collect(engine="streaming")
        keys = pl.Series(_match_keys(candidates, others), dtype=pl.String)
        parts.append(candidates.filter(keys.is_not_null()))
    return pl.concat(parts).unique("id").sort("id")


def find_covered_in_versions(registry: RegisteredVersions, stones: Sequence[Tombstone]) -> pl.DataFrame:
    """Return id, URL and license of the documents covered by URL, domain or license that registered versions had collected.

    At the same URL there may have been another text then. Only data that is still in DVC's cache is searched.
    """
    others, parts = [stone for stone in stones if stone.kind != "id"], [NO_DOCUMENTS]
    first = list_text_stages()[0]
    collected = {get_folder_out(version.made, first)["md5"] for version in registry.versions} if others else set[str]()
    for md5 in sorted(collected - {"", registry.get_workspace_md5(first)}):
        with tempfile.TemporaryDirectory(prefix="minigpt-ledger-") as links:
            folder = Path(links) / first
            if registry.cache.link(md5, folder) is None:
                parts.append(find_covered(folder, others))
    return pl.concat(parts)


def _match_keys(documents: pl.DataFrame, stones: Sequence[Tombstone]) -> list[str | None]:
    columns = {name: pa.array(documents[name].to_list(), pa.string()) for name in MATCHED}
    return match(pa.record_batch(columns), prepare(stones)).to_pylist()


def _prefilter(docs: Path, stones: Sequence[Tombstone]) -> pl.Expr:
    """Return a fast condition that misses no document covered by these tombstones: the host occurs anywhere in the URL."""
    conditions: list[pl.Expr] = [pl.lit(False)]
    hosts = [re.split("[/?:]", stone.value)[0] for stone in stones if stone.kind in ("url", "domain")]
    if hosts:
        conditions.append(pl.col("url").str.contains_any(sorted(set(hosts)), ascii_case_insensitive=True))
    if any("xn--" in host for host in hosts):  # the host may be written in Unicode
        conditions.append(pl.col("url").str.contains(r"[^\x00-\x7F]"))
    names = [stone.value for stone in stones if stone.kind == "license"]
    if names:
        licenses: list[str] = (
            scan_docs(docs).select("license").unique().collect(engine="streaming")["license"].to_list()
        )
        covered = [license for license in licenses if any(needs(license, name) for name in names)]
        conditions.append(pl.col("license").is_in(covered))
    return pl.any_horizontal(conditions)


def find_cluster_members(data: DataSnapshot, ids: Sequence[str]) -> list[str]:
    """Return the other members of the duplicate clusters that these documents are in."""
    members: set[str] = set()
    for folder in list(data.docs.values())[1:]:
        path = folder / "ledger.parquet"
        if not path.exists() or not ids:
            continue
        wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String})
        rows = scan_table(path).filter(pl.col("decision") == "dropped").join(wanted, on="id", how="semi")
        survivors = {each for each in rows.select("other_id").collect(engine="streaming")["other_id"] if is_id(each)}
        members |= survivors | set(list_duplicates(folder, sorted(survivors | set(ids))))
    return sorted(members - set(ids))


def is_id(text: str) -> bool:
    """Return whether `text` is the full id of a document."""
    return len(text) == 32 and ID.fullmatch(text) is not None


def add_text_hashes(docs: Path, stones: Sequence[Tombstone]) -> list[Tombstone]:
    """Return the tombstones, those of an id with the SHA-256 of its text, by which users' collections recognize copies."""
    ids = [stone.value for stone in stones if stone.kind == "id"] if docs.exists() else []
    texts = read_columns(docs, ids, ["id", "text"]) if ids else NO_DOCUMENTS
    hashes = {row["id"]: hashlib.sha256(row["text"].encode()).hexdigest() for row in texts.iter_rows(named=True)}
    return [
        stone._replace(sha256=hashes[stone.value]) if stone.kind == "id" and stone.value in hashes else stone
        for stone in stones
    ]


def update_collections(path: Path) -> str:
    """Remove what the file covers from all collections of users' documents (assistant/knowledge); return what that printed.

    Raises `UserError` if that fails: then the text may still be in a collection.
    """
    if not any(Path(read("MINIGPT_COLLECTIONS")).glob("*/manifest.json")):
        return ""
    command = [sys.executable, "-m", "assistant.knowledge", "takedown", "--takedowns", str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        found = " ".join(process.stderr.split())
        raise UserError(
            "takedown: the collections could not be updated",
            found,
            f"correct that and run: python {' '.join(command[1:])}",
        )
    return process.stdout


def write_stones(path: Path, new: Sequence[Tombstone]) -> int:
    """Add tombstones to the file, atomically; return how many were new."""
    old = read_stones(path)
    n_new = len({stone.key for stone in new} - {stone.key for stone in old})
    text = render([*old, *new])
    if n_new or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return n_new


def list_takedowns(
    data: DataSnapshot, stones: Sequence[Tombstone], registry: RegisteredVersions
) -> tuple[list[TakedownRow], list[Sight]]:
    """Return a row per tombstone, and what versions saw of their documents, including those that are in no corpus any more."""
    removed = _read_removed(data)
    present = find_covered(data.collected, stones) if data.collected.exists() and stones else removed.clear()
    n_there = Counter(_match_keys(present, stones) if present.height else [])
    n_out = Counter(removed["other_id"].to_list())
    named = [stone.value for stone in stones if stone.kind == "id"]
    in_versions = find_covered_in_versions(registry, stones)["id"].to_list()
    ids = sorted({*removed["id"].to_list(), *present["id"].to_list(), *named, *in_versions})
    rows = [TakedownRow(stone, n_out[stone.key], n_there[stone.key]) for stone in stones]
    return rows, registry.find_sights(ids) if ids else []
