"""Measure a search with questions whose sections are known: recall in the first 1, 3 and 10, and the mean reciprocal rank.

In: JSON lines `{"question": "…", "sections": ["Leave", …]}`; any of the named sections is right. A section is named by its title
or by its heading, alone or with the headings above it, as in `Leave › Parental leave`. Out: shares with the standard error of a
share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from model.retrieval.search_results import Search
from model.retrieval.sections import Section

DEPTH = 10
PATH = " › "


class Searches(Protocol):
    """What is measured."""

    def search(self, query: str, limit: int = 3, question: str = "") -> Search: ...


class ExpectedSections(NamedTuple):
    """A question, and the names of the sections that answer it."""

    question: str
    sections: tuple[str, ...]


class Recall(NamedTuple):
    """Shares of the questions whose section is among the first; `missed` are the others, of the first three."""

    n_questions: int
    recall_1: float
    recall_3: float
    recall_10: float
    mrr_10: float
    error_3: float
    missed: tuple[str, ...]


def read_expected(path: Path) -> list[ExpectedSections]:
    """Read a file of questions. Raises: ValueError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"evaluate: {path} can't be read; found {error}; name a file of JSON lines") from error
    questions: list[ExpectedSections] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            sections = tuple(row["sections"])
            if not (isinstance(row["question"], str) and sections and all(isinstance(name, str) for name in sections)):
                raise TypeError("question must be a text, sections a list of texts")
            questions.append(ExpectedSections(row["question"], sections))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}:{number}: not a question; found {line[:80]} ({error}); "
                'write each line as {"question": "…", "sections": ["title or heading", …]}'
            ) from error
    if not questions:
        raise ValueError(f"evaluate: {path} has no question; found {len(lines)} blank lines; write one per line")
    return questions


def is_expected(section: Section, names: Sequence[str]) -> bool:
    """Return whether a section is one of those named, by its title, its heading or its path of headings."""
    path = PATH.join(section.heading)
    own = {_fold(name) for name in (section.title, section.title.partition(" §")[0], path, *section.heading[-1:])}
    return any(_fold(name) in own or _fold(path).endswith(_fold(PATH + name)) for name in names)


def measure_recall(knowledge: Searches, questions: Sequence[ExpectedSections]) -> Recall:
    """Ask every question and compare."""
    ranks: list[int] = []
    for question, names in questions:
        results = knowledge.search(question, DEPTH, question).results
        ranks.append(next((rank for rank, each in enumerate(results, 1) if is_expected(each.section, names)), 0))
    n = len(ranks)
    first, three, ten = (sum(0 < rank <= depth for rank in ranks) / n for depth in (1, 3, DEPTH))
    missed = tuple(question.question for question, rank in zip(questions, ranks, strict=True) if not 0 < rank <= 3)
    mrr = sum(1 / rank for rank in ranks if rank) / n
    return Recall(n, first, three, ten, mrr, math.sqrt(three * (1 - three) / n), missed)


def _fold(name: str) -> str:
    return " ".join(name.split()).casefold()
