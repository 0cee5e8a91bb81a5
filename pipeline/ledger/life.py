"""The life of one document: what each stage decided, with values and thresholds, and where its tokens lie.

In: a `DataSnapshot` and a document. Out: steps, in order, up to the one that ended it. Every look-up goes by id into sorted files:
milliseconds; only `stands in for` and the token table are one pass over a column. Memory: a row group.
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
from pipeline.ledger.find import Row, rows_of, titles
from pipeline.ledger.places import LAST, DataSnapshot
from pipeline.storage.tables import scan_table

MAX_LISTED = 10
SEEN_BEFORE = "seen_before"  # and seen_before_exact
CONTAMINATED = "contaminated"  # the rule of text/decontaminate.py, whose kernels take long to import


class LifeStep(NamedTuple):
    """One line of a life: what a stage decided, and why."""

    stage: str
    decision: str
    detail: str


def life(data: DataSnapshot, doc: Row, stones: Sequence[Tombstone] = (), *, is_brief: bool = False) -> list[LifeStep]:
    """Every decision about one document, in order, up to the one that ended it. Brief: without whom it stands in for."""
    steps: list[LifeStep] = []
    for stage, folder in data.folders.items():
        if not folder.exists():
            return [*steps, LifeStep(stage, "not run yet", f"no {folder}")]
        if stage == LAST:
            return [*steps, tokens(folder, doc["id"])]
        is_first = folder == data.collected
        rows = rows_of(folder / "ledger.parquet", doc["id"])
        rows = [row for row in rows if row["reason"] != "duplicate_id"]  # the same document once more: it stays once
        is_dropped = any(row["decision"] == "dropped" for row in rows)
        if is_first and not is_dropped:
            steps.append(LifeStep(stage, "collected", _origin(doc)))
        steps += [LifeStep(stage, row["decision"], _reason(row, data, stones)) for row in rows]
        if not is_first and not is_dropped:
            steps.append(LifeStep(stage, "kept", "" if is_brief else _stand_ins(folder, doc["id"], data)))
        steps += [LifeStep("", "", line) for line in _scores(folder, doc["id"])]
        if is_dropped:
            break
    return steps


def _origin(doc: Row) -> str:
    where: dict[str, Any] = json.loads(doc["locator"] or "{}")
    place = f"{where['file']}:{where['line']}" if "line" in where else doc["locator"]
    return ", ".join(part for part in (doc["source"], place, doc["url"], f"license {doc['license']}") if part)


def _reason(row: Row, data: DataSnapshot, stones: Sequence[Tombstone]) -> str:
    if row["reason"] == REASON:
        return f"taken down by {said(row['other_id'], stones)}"
    text = f"{row['reason']}: {row['value']:.4g}"
    if row["decision"] == "dropped":  # the value of a change is how much of it there was; no threshold is broken
        text = f"{row['reason']}: {_compared(row['value'], row['threshold'])}"
    if not row["other_id"]:
        return text
    if row["reason"] == CONTAMINATED:  # which item of an evaluation set, not another document
        return f"{text}; shares words with {row['other_id']}"
    known = titles(data.collected, [row["other_id"]])
    if not known and row["reason"].startswith(SEEN_BEFORE):
        return f"{text}; {row['other_id']}, kept by an earlier run, stands in for it"
    return f"{text}; {_name(row['other_id'], known)} stands in for it" if known else f"{text}; {row['other_id']}"


def _compared(value: float, threshold: float) -> str:
    """Both with four digits, or with as many as it takes to see that they differ."""
    side = "<" if value < threshold else ">" if value > threshold else "="
    for digits in (4, 8, 17):
        left, right = f"{value:.{digits}g}", f"{threshold:.{digits}g}"
        if left != right or value == threshold:
            break
    return f"{left} {side} {right}"


def said(key: str, stones: Sequence[Tombstone]) -> str:
    """A tombstone in words, with the reason that stands in the file."""
    for stone in stones:
        if stone.key == key:
            dated = f", {stone.date}" if stone.date else ""
            return f"{stone.kind} {stone.value} ({stone.reason or 'no reason given'}{dated})"
    return f"{key.replace(':', ' ', 1)} (no longer in the file: dvc repro brings it back)"


def _name(doc_id: str, known: dict[str, str]) -> str:
    return f"{known.get(doc_id, '?')} ({doc_id[:12]})"


def _stand_ins(folder: Path, doc_id: str, data: DataSnapshot) -> str:
    others = members(folder, [doc_id])
    if not others:
        return ""
    known = titles(data.collected, others[:MAX_LISTED])
    more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
    return f"stands in for {', '.join(_name(other, known) for other in others[:MAX_LISTED])}{more}"


def members(folder: Path, survivors: Sequence[str]) -> list[str]:
    """Documents that this stage dropped in favour of one of these."""
    if not (folder / "ledger.parquet").exists():
        return []
    rows = scan_table(folder / "ledger.parquet")
    found = rows.filter((pl.col("decision") == "dropped") & pl.col("other_id").is_in(list(survivors))).select("id")
    return sorted(found.collect(engine="streaming")["id"].to_list())


def _scores(folder: Path, doc_id: str) -> list[str]:
    """All scores of a document beside the thresholds, where the stage has stored them."""
    if not (folder / "scores.parquet").exists():
        return []
    rules: list[Row] = json.loads((folder / "rules.json").read_text(encoding="utf-8"))
    width = max(len(rule["score"]) for rule in rules)
    lines: list[str] = []
    for row in rows_of(folder / "scores.parquet", doc_id):
        for rule in rules:
            value, threshold, is_least = row[rule["score"]], rule["threshold"], rule["side"] == "min"
            verdict = "" if (value >= threshold if is_least else value <= threshold) else "  broken"
            lines.append(
                f"{rule['score']:{width}}  {value:8.4g}  {'least' if is_least else 'most'} {threshold:g}{verdict}"
            )
    return lines


def tokens(folder: Path, doc_id: str) -> LifeStep:
    """The shard file and the token range that hold a document."""
    found = scan_table(folder / "docs.parquet").filter(pl.col("id") == doc_id).collect(engine="streaming").to_dicts()
    if not found:
        return LifeStep(LAST, "absent", "the shards were made from other documents: run dvc repro")
    row = found[0]
    stop = row["start"] + row["n_tokens"]
    where = f"tokens {row['start']:,} to {stop - 1:,} of the {row['split']} stream ({row['n_tokens']:,} of them)"
    return LifeStep(LAST, row["split"], where + _file(folder, row))


def _file(folder: Path, row: Row) -> str:
    """A document lies in one file; the streams are cut where the manifest says."""
    path = folder / "manifest.json"
    if not path.exists():
        return ""
    try:
        files: list[Row] = json.loads(path.read_text(encoding="utf-8"))[row["split"]]["files"]
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not a manifest", repr(error), "run dvc repro shard") from error
    stops = list(itertools.accumulate(file["n_tokens"] for file in files))
    for file, stop in zip(files, stops, strict=True):
        if row["start"] < stop:
            first = row["start"] - stop + file["n_tokens"]
            return f", in {folder / file['name']} at {first:,} to {first + row['n_tokens'] - 1:,}"
    return ""
