"""Explain what became of feedback on an answer, and take it down: ids `fb_…` of data/feedback (docs/feedback.md).

In: an id, the folder data with one folder per stage, the tombstones. Out: lines of text; for a takedown the files of data/feedback
without its rows, each replaced as a whole. `dvc repro` then trains without it; versions that saw it are named by their lineage.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.download.tombstones import Tombstone
from pipeline.frame.errors import UserError
from pipeline.ledger.life import describe_tombstone
from pipeline.screening.feedback import CHATS, FILES, ID, QUESTIONS, TURNS
from pipeline.storage.lines import read_json_list
from pipeline.storage.tables import scan_table

SOURCE = "feedback"  # in the column `source` of conversations
READERS = {CHATS: "conversations", QUESTIONS: "embed", TURNS: "evaluate"}


def is_feedback(query: str) -> bool:
    """Return whether this is the id of feedback."""
    return ID.fullmatch(query) is not None


def explain_feedback(query: str, data: Path, stones: Sequence[Tombstone]) -> str:
    """Return where the rows of feedback are and what the stages made of them. Raises `UserError` for an unknown id."""
    lines = [f"feedback {query}"]
    for name in FILES:
        for number in _find_rows(data / SOURCE / name, query):
            lines.append(f"  {SOURCE}/{name}, line {number}, read by {READERS[name]}")
            if name == CHATS:
                lines += [f"    {line}" for line in _follow_chat(data / "conversations", number)]
            elif name == TURNS:
                lines += [f"    {line}" for line in _follow_turn(data / "evaluate", query)]
    keys = [stone.key for stone in stones if stone.kind == SOURCE and stone.value == query]
    lines += [f"  taken down: {describe_tombstone(key, stones)}" for key in keys]
    if len(lines) == 1:
        raise UserError(
            f"why: no feedback {query}",
            f"it is in none of {', '.join(FILES)} of {data / SOURCE}",
            "export it (python -m service feedback export), or ask the service: python -m service feedback list",
        )
    return "\n".join(lines)


def check_known(ids: Collection[str], data: Path, *, allows_unknown: bool) -> None:
    """Raise `UserError` for an id that no file has, unless it is to be recorded all the same."""
    unknown = [each for each in ids if not any(_find_rows(data / SOURCE / name, each) for name in FILES)]
    if unknown and not allows_unknown:
        raise UserError(
            "takedown: unknown feedback; nothing was written",
            ", ".join(unknown[:5]),
            "correct the id, or record it with --allow-unmatched, so that no export has it",
        )


def remove_rows(ids: Collection[str], data: Path) -> dict[str, int]:
    """Remove the rows of feedback from the files. Return how many each had."""
    removed: dict[str, int] = {}
    for name in FILES:
        path = data / SOURCE / name
        if not path.is_file():
            continue
        kept: list[str] = []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        numbers = {number for each in ids for number in _find_rows(path, each)}
        kept = [line for number, line in enumerate(lines, 1) if number not in numbers]
        if not numbers:
            continue
        removed[name] = len(numbers)
        if not any(line.strip() for line in kept):
            path.unlink()
            continue
        partial = path.with_name(f".{name}.partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(path)
    return removed


def _find_rows(path: Path, query: str) -> list[int]:
    """Return the numbers of the lines that have this id."""
    if not path.is_file():
        return []
    rows: list[tuple[int, Any]] = list(read_json_list(path))
    return [number for number, row in rows if isinstance(row, dict) and row.get("feedback") == query]


def _follow_chat(folder: Path, number: int) -> list[str]:
    """Return what the stage conversations made of a line of chats.jsonl."""
    locator = pl.col("locator").str.contains(rf"^{SOURCE}/{CHATS}\D*{number}(\D|$)") & (pl.col("source") == SOURCE)
    lines: list[str] = []
    for name, text in (
        ("train.parquet", "trained on"),
        ("heldout.parquet", "held out"),
        ("rejects.parquet", "rejected"),
    ):
        if not (folder / name).exists():
            continue
        rows = scan_table(folder / name).filter(locator).collect()
        if rows.height:
            reason = f": {rows['reason'][0]} ({rows['detail'][0]})" if name == "rejects.parquet" else ""
            lines.append(f"{text}, {rows.height} rows of {folder / name}{reason}")
    return lines or ["not in data/conversations yet; dvc repro takes it in"]


def _follow_turn(folder: Path, query: str) -> list[str]:
    """Return whether the answer was right in the last evaluation."""
    path = folder / "items.parquet"
    if not path.exists():
        return ["not evaluated yet"]
    rows = scan_table(path).filter(pl.col("id").str.starts_with(query)).collect()
    if not rows.height:
        return ["not evaluated yet"]
    return [
        "the answer was right in the last evaluation" if rows["score"][0] == 1 else "still wrong in the last evaluation"
    ]
