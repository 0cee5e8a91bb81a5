"""python -m pipeline.ledger why <id, title or a piece of text>: what became of a document, stage by stage, and by which rule.

In: the folders that the text stages made (their places are read from dvc.yaml, or `--data FOLDER` holds one folder a stage). Out:
a table on the terminal: where the document comes from, each decision with its value and threshold, the document that stands in
for it, and the token range that holds it. Memory: one batch of documents; time: one pass over ids, titles or texts.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.tables import read_batches, read_table

STAGES = ("download", "dedupe", "filter", "shard")
MAX_LISTED = 10
MIN_ID_PREFIX = 6

Row = dict[str, Any]


class Step(NamedTuple):
    """One line of a life: what a stage decided, and why."""

    stage: str
    decision: str
    detail: str


def stage_folders(dvc_file: Path, data: Path | None) -> dict[str, Path]:
    """The out folder of each text stage, in the order of the graph. `data` overrules dvc.yaml."""
    if data is not None or not dvc_file.exists():
        return {stage: (data or Path("data")) / stage for stage in STAGES}
    graph: Any = YAML(typ="safe", pure=True).load(dvc_file.read_text(encoding="utf-8"))
    outs = {name: stage["outs"][0] for name, stage in graph["stages"].items() if name in STAGES}
    return {name: Path(out if isinstance(out, str) else next(iter(out))) for name, out in outs.items()}


def find(docs: Path, query: str) -> list[Row]:
    """Documents (without their text) that the query means: by id, else by title, else by URL or locator, else by text."""
    if re.fullmatch(rf"[0-9a-f]{{{MIN_ID_PREFIX},32}}", query):
        by_id = list(_matching(docs, "id", f"^{query}"))
        if by_id:
            return by_id
    name = re.escape(query)
    for column, pattern in (
        ("title", f"^{name}$"),
        ("title", f"(?i)(^|[.]){name}$"),
        ("title", f"(?i){name}"),
        ("url", name),
        ("locator", name),
        ("text", name),
    ):
        found = list(_matching(docs, column, pattern))
        if found:
            return found
    raise UserError(
        f"ledger: no document for {query!r}", f"none in {docs}", "give an id, a title, or words of its text"
    )


def _matching(docs: Path, column: str, pattern: str) -> Iterator[Row]:
    columns = ["id", "title", "source", "locator", "url", "licence"]
    for batch in read_batches(docs, [*columns, "text"] if column == "text" else columns):
        yield from batch.filter(pc.match_substring_regex(batch.column(column), pattern)).select(columns).to_pylist()


def life(folders: dict[str, Path], doc: Row) -> list[Step]:
    """Every decision about one document, in order, up to the one that ended it."""
    steps = [Step("download", "collected", _origin(doc))]
    for stage, folder in folders.items():
        if stage == "download":
            continue
        if not folder.exists():
            return [*steps, Step(stage, "not run yet", f"no {folder}")]
        if stage == "shard":
            return [*steps, _tokens(folder, doc["id"])]
        rows = _rows(read_table(folder / "ledger.parquet"), "id", doc["id"])
        is_dropped = any(row["decision"] == "dropped" for row in rows)
        steps += [Step(stage, row["decision"], _reason(row, folders)) for row in rows]
        if not is_dropped:
            steps.append(Step(stage, "kept", _stand_ins(folder, doc["id"], folders)))
        steps += [Step("", "", line) for line in _scores(folder, doc["id"])]
        if is_dropped:
            break
    return steps


def _origin(doc: Row) -> str:
    where: dict[str, Any] = json.loads(doc["locator"] or "{}")
    place = f"{where['file']}:{where.get('line', 0)}" if "file" in where else doc["locator"]
    return ", ".join(part for part in (doc["source"], place, doc["url"], f"licence {doc['licence']}") if part)


def _reason(row: Row, folders: dict[str, Path]) -> str:
    side = "<" if row["value"] < row["threshold"] else ">" if row["value"] > row["threshold"] else "="
    text = f"{row['reason']}: {row['value']:.4g} {side} {row['threshold']:.4g}"
    return f"{text}; {_titles(folders, [row['other_id']])} stands in for it" if row["other_id"] else text


def _stand_ins(folder: Path, doc_id: str, folders: dict[str, Path]) -> str:
    others = _rows(read_table(folder / "ledger.parquet"), "other_id", doc_id)
    if not others:
        return ""
    more = f" and {len(others) - MAX_LISTED} more" if len(others) > MAX_LISTED else ""
    return f"stands in for {_titles(folders, [row['id'] for row in others[:MAX_LISTED]])}{more}"


def _titles(folders: dict[str, Path], ids: list[str]) -> str:
    found = {
        row["id"]: row["title"]
        for batch in read_batches(folders["download"], ["id", "title"])
        for row in batch.filter(pc.is_in(batch.column("id"), pa.array(ids, pa.string()))).to_pylist()
    }
    return ", ".join(f"{found.get(doc_id, '?')} ({doc_id[:12]})" for doc_id in ids)


def _scores(folder: Path, doc_id: str) -> list[str]:
    """All scores of a document beside the thresholds, where the stage has stored them."""
    if not (folder / "scores.parquet").exists():
        return []
    rules: list[Row] = json.loads((folder / "rules.json").read_text(encoding="utf-8"))
    width = max(len(rule["score"]) for rule in rules)
    lines: list[str] = []
    for row in _rows(read_table(folder / "scores.parquet"), "id", doc_id):
        for rule in rules:
            value, threshold, is_least = row[rule["score"]], rule["threshold"], rule["side"] == "min"
            verdict = "" if (value >= threshold if is_least else value <= threshold) else "  broken"
            lines.append(
                f"{rule['score']:{width}}  {value:8.4g}  {'least' if is_least else 'most'} {threshold:g}{verdict}"
            )
    return lines


def _tokens(folder: Path, doc_id: str) -> Step:
    rows = _rows(read_table(folder / "docs.parquet"), "id", doc_id)
    if not rows:
        return Step("shard", "absent", "the shards were made from other documents: run dvc repro")
    row = rows[0]
    stop = row["start"] + row["n_tokens"]
    return Step(
        "shard",
        row["split"],
        f"tokens {row['start']:,} to {stop - 1:,} of the {row['split']} stream ({row['n_tokens']:,} of them)",
    )


def _rows(table: pa.Table, column: str, value: str) -> list[Row]:
    return table.filter(pc.equal(table.column(column), value)).to_pylist()


def why(folders: dict[str, Path], query: str) -> str:
    """The answer as text: one life, or where each of several documents ended."""
    found = find(folders["download"], query)
    if len(found) == 1:
        steps = life(folders, found[0])
        width = [max(len(step[i]) for step in steps) for i in (0, 1)]
        lines = [f"{step.stage:{width[0]}}  {step.decision:{width[1]}}  {step.detail}".rstrip() for step in steps]
        return "\n".join([f"{found[0]['title']}  {found[0]['id']}", *lines])
    lines = [f"{doc['id']}  {doc['title']}  {_end(folders, doc)}" for doc in found[:MAX_LISTED]]
    more = [f"… and {len(found) - MAX_LISTED:,} more"] if len(found) > MAX_LISTED else []
    return "\n".join([f"{len(found):,} documents match; ask again with the id of one:", *lines, *more])


def _end(folders: dict[str, Path], doc: Row) -> str:
    step = [step for step in life(folders, doc) if step.stage][-1]
    return f"{step.stage}: {step.decision} {step.detail.partition(';')[0]}".rstrip()


def main(argv: list[str] | None = None) -> int:
    """Answers one question and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ledger", description="Ask what became of a document.")
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("why", help="the life of a document, stage by stage")
    asked.add_argument("query", help="an id (or its first letters), a title, or a piece of its text")
    asked.add_argument(
        "--data", type=Path, metavar="FOLDER", help="folder with one folder a stage (default: as dvc.yaml says)"
    )
    asked.add_argument(
        "--dvc-file", type=Path, default=Path("dvc.yaml"), metavar="FILE", help="the graph (default: dvc.yaml)"
    )
    args = parser.parse_args(argv)
    try:
        print(why(stage_folders(args.dvc_file, args.data), args.query))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
