"""Read hand-written questions: what people ask, and the titles of all sections that answer it.

In: a folder of JSON lines {"question", "titles", "split": "train" | "heldout"}. Out: questions with the rows of their answers;
titles that the index has not are counted and named, and so are questions without any title left. A title may answer questions of
one split only: the held-out half is held out by document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.frame.errors import UserError
from pipeline.storage.lines import read_json_list

KEYS = {"question", "titles", "split"}
SPLITS = ("train", "heldout")
SHOWN = 10  # missing titles that a log line names


class Question(NamedTuple):
    """A question, the rows of the units that answer it, and its split."""

    text: str
    rows: tuple[int, ...]
    split: str


def read_questions(folder: Path) -> list[tuple[str, tuple[str, ...], str]]:
    """Return (question, titles, split) of all files of a folder. Raises `UserError` that names file and line."""
    paths = sorted(path for path in folder.rglob("*.jsonl") if not path.name.startswith((".", "_")))
    questions: list[tuple[str, tuple[str, ...], str]] = []
    positions: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}
    rows = [(f"{path}:{number}", row) for path in paths for number, row in read_json_list(path)]
    for position, row in rows:
        text, titles, split = _check_row(row, position)
        if (first := positions.setdefault(text, position)) != position:
            raise UserError(f"{position}: the question is there twice", f"{text!r}, first in {first}", "remove one")
        for title in titles:
            other, where = splits.setdefault(title, (split, position))
            if other != split:
                raise UserError(
                    f"{position}: a title of both splits", f"{title!r}, {other} in {where}", "move one of the questions"
                )
        questions.append((text, titles, split))
    return questions


def _check_row(row: object, position: str) -> tuple[str, tuple[str, ...], str]:
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
    return " ".join(text.split()), tuple(dict.fromkeys(titles)), split


def locate_answers(
    questions: Sequence[tuple[str, tuple[str, ...], str]], rows: Mapping[str, int]
) -> tuple[list[Question], list[str], list[str]]:
    """Return the questions that have an answer in the index, the titles that it has not, and the questions without one."""
    located = [Question(text, tuple(rows[t] for t in titles if t in rows), split) for text, titles, split in questions]
    missing = sorted({title for _, titles, _ in questions for title in titles} - rows.keys())
    return [each for each in located if each.rows], missing, [each.text for each in located if not each.rows]


def describe_some(names: Sequence[str]) -> str:
    """Return the first names of a list for a log line."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
