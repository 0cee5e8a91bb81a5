"""Read what people said about answers, as the service exports it (`python -m service feedback export`), from data/feedback.

    chats.jsonl      {"feedback": "fb_…", "messages": […], "license"}   conversations with the corrected answer: conversations
    questions.jsonl  {"feedback": "fb_…", "question", "titles"}         what a question should find: embed
    turns.jsonl      {"feedback": "fb_…", "user", "says" | "titles"}    what must be right from now on: evaluate

Every row was accepted by a reviewer, with the person's consent to train on it and personal data masked. Any of the files may be
missing; another file in the folder is an error, because it would be left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.frame.errors import UserError
from pipeline.storage.lines import read_json_list
from pipeline.storage.written_questions import QuestionRow

CHATS, QUESTIONS, TURNS = "chats.jsonl", "questions.jsonl", "turns.jsonl"
FILES = (CHATS, QUESTIONS, TURNS)
ID = re.compile(r"fb_[a-z2-7]{24}")
LICENSE = "feedback-consent"  # of what people gave for training


def find_feedback_file(folder: Path | None, name: str) -> Path | None:
    """Return one of the files, None if there is no feedback. Raises: `UserError` for a file that is none of them."""
    if folder is None or not folder.is_dir():
        return None
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in (*FILES, "README.md") and not path.name.startswith(".")
    )
    if others:
        raise UserError(
            f"{folder}: a file that is no feedback",
            ", ".join(others[:5]),
            f"move it elsewhere; there are {', '.join(FILES)} (python -m service feedback export)",
        )
    path = folder / name
    return path if path.is_file() else None


def read_feedback_rows(folder: Path | None, name: str, fields: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return (position, row) of a file. Raises: `UserError` for a row without an id, or with other fields than these."""
    path = find_feedback_file(folder, name)
    if path is None:
        return []
    rows: list[tuple[str, dict[str, Any]]] = []
    known = {"feedback", *fields}
    for number, row in read_json_list(path):
        position = f"{path}:{number}"
        if not isinstance(row, dict) or not set(row) <= known or not ID.fullmatch(str(row.get("feedback"))):
            found = f"{row!r:.80}"
            raise UserError(f"{position}: not feedback", found, f"give an id and {', '.join(sorted(known))} alone")
        rows.append((position, row))
    return rows


def read_feedback_questions(folder: Path | None, written: Sequence[QuestionRow]) -> list[QuestionRow]:
    """Return the questions that are not written by hand already. Titles of held-out questions are left out, so that the test stays
    one; a question without any title left is left out too."""
    known = {question.text for question in written}
    heldout = {title for question in written if question.split != "train" for title in question.titles}
    questions: dict[str, QuestionRow] = {}
    for position, row in read_feedback_rows(folder, QUESTIONS, ("question", "titles")):
        text, titles = row.get("question"), row.get("titles")
        is_list = isinstance(titles, list) and all(isinstance(title, str) and title for title in titles)
        if not isinstance(text, str) or not text.strip() or not is_list or not titles:
            raise UserError(f"{position}: not a question", f"{row!r:.80}", "give the texts question and titles")
        kept = tuple(title for title in dict.fromkeys(titles) if title not in heldout)
        text = " ".join(text.split())
        if kept and text not in known:
            before = questions.get(text, QuestionRow(text, (), "train"))
            questions[text] = QuestionRow(text, tuple(dict.fromkeys([*before.titles, *kept])), "train")
    return list(questions.values())
