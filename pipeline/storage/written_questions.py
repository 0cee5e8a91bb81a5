"""Read questions written by hand: what people ask, and the titles of all sections that answer it.

In: a folder of JSON lines {"question", "titles", "split": "train" | "heldout"}. Out: questions in the order of the files' names.
A title may answer questions of one split only: the held-out half is held out by document. Two stages read them: embed trains
and measures the search with them, conversations makes examples of how-to questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.frame.errors import UserError
from pipeline.storage.lines import read_json_list

KEYS = {"question", "titles", "split"}
SPLITS = ("train", "heldout")


class QuestionRow(NamedTuple):
    """A question, the titles that answer it, and its split."""

    text: str
    titles: tuple[str, ...]
    split: str


def read_questions(folder: Path) -> list[QuestionRow]:
    """Return the questions of all files of a folder. Raises `UserError` that names file and line."""
    paths = sorted(path for path in folder.rglob("*.jsonl") if not path.name.startswith((".", "_")))
    questions: list[QuestionRow] = []
    positions: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}
    rows = [(f"{path}:{number}", row) for path in paths for number, row in read_json_list(path)]
    for position, row in rows:
        question = _check_row(row, position)
        if (first := positions.setdefault(question.text, position)) != position:
            raise UserError(
                f"{position}: the question is there twice", f"{question.text!r}, first in {first}", "remove one"
            )
        for title in question.titles:
            other, where = splits.setdefault(title, (question.split, position))
            if other != question.split:
                raise UserError(
                    f"{position}: a title of both splits", f"{title!r}, {other} in {where}", "move one of the questions"
                )
        questions.append(question)
    return questions


def _check_row(row: object, position: str) -> QuestionRow:
    if not isinstance(row, dict) or set(row) != KEYS:
        found = f"the keys {', '.join(map(str, row))}" if isinstance(row, dict) else type(row).__name__
        raise UserError(f"{position}: not a question", found, f"give the keys {', '.join(sorted(KEYS))}")
    text, titles, split = row["question"], row["titles"], row["split"]
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{position}: question must be a text", f"{text!r:.80}", "write the question")
    if not isinstance(titles, list) or not titles or not all(isinstance(title, str) and title for title in titles):
        raise UserError(f"{position}: titles must be a list of texts", f"{titles!r:.80}", "name what answers it")
    if split not in SPLITS:
        raise UserError(f"{position}: split must be one of {', '.join(SPLITS)}", repr(split), "correct it")
    return QuestionRow(" ".join(text.split()), tuple(dict.fromkeys(titles)), split)
