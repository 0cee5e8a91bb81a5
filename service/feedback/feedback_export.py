"""Write accepted feedback for the pipeline: data/feedback, which conversations, embed and evaluate read.

In: accepted feedback with consent, and the tombstones of data/takedowns.jsonl. Out: three files of JSON lines, sorted by id, so
that the same feedback gives the same bytes; each is replaced as a whole. A row goes where it has something to teach:

    chats.jsonl      a correction, or an answer that was liked and cites nothing: the conversation with the right answer
    questions.jsonl  a question of one turn, and the sections that answer it
    turns.jsonl      a corrected answer of one turn, which has to be right from now on

Rows name nobody: id, texts, titles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.feedback.feedback_store import Feedback

LICENSE = "feedback-consent"
FILES = ("chats.jsonl", "questions.jsonl", "turns.jsonl")
Row = dict[str, Any]


@dataclass
class FeedbackExport:
    """Rows by file. `unused` are ids of feedback that teaches nothing: a thumb alone."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: list[Row]() for name in FILES})
    unused: list[str] = field(default_factory=list[str])
    n_taken_down: int = 0


def make_export(accepted: Iterable[Feedback], taken_down: frozenset[str] = frozenset()) -> FeedbackExport:
    """Return what accepted feedback teaches. Feedback without consent is never in it, whatever its state."""
    export = FeedbackExport()
    for each in sorted(accepted, key=lambda each: each.id):
        if each.state != "accepted" or not each.consent:
            continue
        if each.id in taken_down:
            export.n_taken_down += 1
            continue
        rows = _list_rows(each)
        for name, row in rows:
            export.rows[name].append({"feedback": each.id, **row})
        if not rows:
            export.unused.append(each.id)
    return export


def _list_rows(each: Feedback) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    is_single = sum(role == "user" for role, _ in each.messages) == 1
    answer = each.correction or (each.text if each.rating == "up" and not each.titles else "")
    if answer and each.question:
        turns = [
            {"role": role, "content": text} for role, text in each.messages if role in ("system", "user", "assistant")
        ]
        messages = [*turns, {"role": "assistant", "content": answer}]
        rows.append(("chats.jsonl", {"messages": messages, "license": LICENSE}))
    if not is_single or not each.question:
        return rows
    if each.titles:
        rows.append(("questions.jsonl", {"question": each.question, "titles": list(each.titles)}))
    if each.rating == "down" and each.titles:
        rows.append(("turns.jsonl", {"user": each.question, "titles": [list(each.titles)]}))
    elif each.rating == "down" and each.correction:
        rows.append(("turns.jsonl", {"user": each.question, "says": [each.correction]}))
    return rows


def read_taken_down(path: Path) -> frozenset[str]:
    """Return the ids of feedback that data/takedowns.jsonl keeps out. Raises: ValueError for a broken line."""
    if not path.is_file():
        return frozenset()
    ids: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row: Any = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not JSON; found {line[:80]!r}; correct it.") from error
        if isinstance(row, dict) and row.get("kind") == "feedback":
            ids.add(str(row.get("value")))
    return frozenset(ids)


def write_export(folder: Path, export: FeedbackExport) -> dict[str, int]:
    """Write the files; one without rows is removed. Return the number of rows of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in export.rows.items():
        _replace_file(folder / name, rows)
    return {name: len(rows) for name, rows in export.rows.items()}


def _replace_file(path: Path, rows: Sequence[Row]) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(f".{path.name}.partial")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
