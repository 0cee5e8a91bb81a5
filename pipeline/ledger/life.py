"""Read the history of one document: what each stage decided, with values and thresholds, and where its tokens are stored.

In: a `DataSnapshot` and a document. Out: steps, in order, up to the one that dropped it. Every look-up by id reads sorted files and
takes milliseconds; only the documents that it stands in for and the token table need one pass over a column. Memory: a row group.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline.download.tombstones import REASON, Tombstone
from pipeline.frame.errors import UserError
from pipeline.ledger.find import Row, read_rows, read_titles
from pipeline.ledger.places import LAST, DataSnapshot
from pipeline.storage.tables import scan_table

MAX_LISTED = 10
SEEN_BEFORE = "seen_before"  # and seen_before_exact
SEARCH_ONLY = "search_only"  # a duplicate that leaves the training text and stays in the index under its own title
CONTAMINATED = "contaminated"  # a rule of pipeline/screening/contamination.py, whose kernels take long to import


class LifeStep(NamedTuple):
    """One line of a history: what a stage decided, and why."""

    stage: str
    decision: str
    detail: str


def read_life(
    data: DataSnapshot, doc: Row, stones: Sequence[Tombstone] = (), *, is_brief: bool = False
) -> list[LifeStep]:
    """Return every decision on one document, in order, up to the one that dropped it.

    With `is_brief`, skip the documents that it stands in for, which take a pass over the ledger.
    """
    steps: list[LifeStep] = []
    is_search_only = bool(doc["is_search_only"])
    for stage, folder in data.folders.items():
        if not folder.exists():
            return [*steps, LifeStep(stage, "not run yet", f"no {folder}")]
        if stage == LAST:
            return [*steps, locate_tokens(folder, doc["id"], is_search_only=is_search_only)]
        is_first = folder == data.collected
        rows = read_rows(folder / "ledger.parquet", doc["id"])
        rows = [row for row in rows if row["reason"] != "duplicate_id"]  # another copy of a document that is kept
        is_dropped = any(row["decision"] == "dropped" for row in rows)
        is_search_only |= any(row["reason"] == SEARCH_ONLY for row in rows)
        if is_first and not is_dropped:
            steps.append(LifeStep(stage, "collected", _describe_origin(doc)))
        steps += [LifeStep(stage, row["decision"], _describe_reason(row, data, stones)) for row in rows]
        if not is_first and not is_dropped:
            steps.append(LifeStep(stage, "kept", "" if is_brief else _describe_stand_ins(folder, doc["id"], data)))
        steps += [LifeStep("", "", line) for line in _list_scores(folder, doc["id"])]
        if is_dropped:
            break
    return steps


def _describe_origin(doc: Row) -> str:
    locator: dict[str, Any] = json.loads(doc["locator"] or "{}")
    location = f"{locator['file']}:{locator['line']}" if "line" in locator else doc["locator"]
    use = "for search only" if doc["is_search_only"] else ""
    return ", ".join(part for part in (doc["source"], location, doc["url"], f"license {doc['license']}", use) if part)


def _describe_reason(row: Row, data: DataSnapshot, stones: Sequence[Tombstone]) -> str:
    if row["reason"] == REASON:
        return f"taken down by {describe_tombstone(row['other_id'], stones)}"
    text = f"{row['reason']}: {row['value']:.4g}"
    if row["reason"] == SEARCH_ONLY:
        what = "similarity " if row["other_id"] else ""
        text = f"kept for search only, out of training text: {what}{_compare(row['value'], row['threshold'])}"
    elif row["decision"] == "dropped":  # the value of a change is how much was changed; no threshold is violated
        text = f"{row['reason']}: {_compare(row['value'], row['threshold'])}"
    if not row["other_id"]:
        return text
    if row["reason"] == CONTAMINATED:  # it names an item of an evaluation set, not another document
        return f"{text}; shares words with {row['other_id']}"
    titles = read_titles(data.collected, [row["other_id"]])
    if not titles and row["reason"].startswith(SEEN_BEFORE):
        return f"{text}; {row['other_id']}, kept by an earlier run, stands in for it"
    return f"{text}; {_name(row['other_id'], titles)} stands in for it" if titles else f"{text}; {row['other_id']}"


def _compare(value: float, threshold: float) -> str:
    """Format both with four digits, or with as many as it takes to see that they differ."""
    sign = "<" if value < threshold else ">" if value > threshold else "="
    for digits in (4, 8, 17):
        left, right = f"{value:.{digits}g}", f"{threshold:.{digits}g}"
        if left != right or value == threshold:
            break
    return f"{left} {sign} {right}"


def describe_tombstone(key: str, stones: Sequence[Tombstone]) -> str:
    """Describe the tombstone with this key, with the reason and date that the file gives."""
    for stone in stones:
        if stone.key == key:
            date = f", {stone.date}" if stone.date else ""
            return f"{stone.kind} {stone.value} ({stone.reason or 'no reason given'}{date})"
    return f"{key.replace(':', ' ', 1)} (no longer in the file: dvc repro restores the document)"


def _name(doc_id: str, titles: dict[str, str]) -> str:
    return f"{titles.get(doc_id, '?')} ({doc_id[:12]})"


def _describe_stand_ins(folder: Path, doc_id: str, data: DataSnapshot) -> str:
    others = list_duplicates(folder, [doc_id])
    if not others:
        return ""
    titles = read_titles(data.collected, others[:MAX_LISTED])
    more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
    return f"stands in for {', '.join(_name(other, titles) for other in others[:MAX_LISTED])}{more}"


def list_duplicates(folder: Path, survivors: Sequence[str]) -> list[str]:
    """Return the ids of the documents that this stage dropped, or keeps for search only, in favor of one of `survivors`."""
    if not (folder / "ledger.parquet").exists():
        return []
    rows = scan_table(folder / "ledger.parquet")
    is_duplicate = (pl.col("decision") == "dropped") | (pl.col("reason") == SEARCH_ONLY)
    dropped = rows.filter(is_duplicate & pl.col("other_id").is_in(list(survivors))).select("id")
    return sorted(dropped.collect(engine="streaming")["id"].to_list())


def _list_scores(folder: Path, doc_id: str) -> list[str]:
    """Return one line per rule with the document's score and the threshold; empty if the stage stores no scores."""
    if not (folder / "scores.parquet").exists():
        return []
    rules: list[Row] = json.loads((folder / "rules.json").read_text(encoding="utf-8"))
    width = max(len(rule["score"]) for rule in rules)
    lines: list[str] = []
    for row in read_rows(folder / "scores.parquet", doc_id):
        for rule in rules:
            value, threshold, is_min = row[rule["score"]], rule["threshold"], rule["side"] == "min"
            verdict = "" if (value >= threshold if is_min else value <= threshold) else "  violated"
            lines.append(
                f"{rule['score']:{width}}  {value:8.4g}  {'at least' if is_min else 'at most'} {threshold:g}{verdict}"
            )
    return lines


def locate_tokens(folder: Path, doc_id: str, *, is_search_only: bool = False) -> LifeStep:
    """Return the step that names the shard file and the token range of a document."""
    if is_search_only:
        return LifeStep(LAST, "left out", "for search only: in the index, not in training text")
    rows = scan_table(folder / "docs.parquet").filter(pl.col("id") == doc_id).collect(engine="streaming").to_dicts()
    if not rows:
        return LifeStep(LAST, "absent", "the shards were made from other documents: run dvc repro")
    row = rows[0]
    stop = row["start"] + row["n_tokens"]
    position = f"tokens {row['start']:,} to {stop - 1:,} of the {row['split']} stream ({row['n_tokens']:,} tokens)"
    return LifeStep(LAST, row["split"], position + _locate_file(folder, row))


def _locate_file(folder: Path, row: Row) -> str:
    """Describe the position in a file of the stream: the manifest says where streams are split, never within a document."""
    path = folder / "manifest.json"
    if not path.exists():
        return ""
    try:
        files: list[Row] = json.loads(path.read_text(encoding="utf-8"))[row["split"]]["files"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not a manifest of token shards", repr(error), "run dvc repro shard") from error
    stops = list(itertools.accumulate(file["n_tokens"] for file in files))
    for file, stop in zip(files, stops, strict=True):
        if row["start"] < stop:
            first = row["start"] - stop + file["n_tokens"]
            return f", in {folder / file['name']} at {first:,} to {first + row['n_tokens'] - 1:,}"
    return ""
