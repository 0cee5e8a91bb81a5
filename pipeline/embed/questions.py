"""Locate the answers of hand-written questions in the index.

In: questions with titles (pipeline.storage.written_questions). Out: questions with the rows of their answers; titles that the index
has not are counted and named, and so are questions without any title left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from model.retrieval.naming.names import NameResolver
from model.retrieval.segment import Segment
from pipeline.storage.written_questions import QuestionRow
from pipeline.storage.written_questions import read_questions as read_questions

SAME = ("exact", "alias", "inherited")  # ways in which a name is found that mean this very object
SHOWN = 10  # missing titles that a log line names


class Question(NamedTuple):
    """A question, the rows of the units that answer it, and its split."""

    text: str
    rows: tuple[int, ...]
    split: str


def find_titles(segment: Segment, titles: Iterable[str]) -> dict[str, int]:
    """Return the rows of the titles that an index has, under this name or another one of the same object."""
    resolver = NameResolver(segment)
    matches = {title: resolver.resolve(title, with_typos=False) for title in dict.fromkeys(titles)}
    return {title: int(match.rows[0]) for title, match in matches.items() if match.rows and match.how in SAME}


def locate_answers(
    questions: Sequence[QuestionRow], rows: Mapping[str, int]
) -> tuple[list[Question], list[str], list[str]]:
    """Return the questions that have an answer in the index, the titles that it has not, and the questions without one."""
    located = [
        Question(text, tuple(dict.fromkeys(rows[t] for t in titles if t in rows)), split)
        for text, titles, split in questions
    ]
    missing = sorted({title for _, titles, _ in questions for title in titles} - rows.keys())
    return [each for each in located if each.rows], missing, [each.text for each in located if not each.rows]


def describe_some(names: Sequence[str]) -> str:
    """Return the first names of a list for a log line."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
