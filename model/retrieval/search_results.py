"""The result of a search: sections with the lines that a model reads, and a trace of every step.

Plain values. `Search.text` is what the tool returns: one line a passage, or `No passage found.`
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model.grounding.answers import NOTHING_FOUND
from model.retrieval.sections import Section


@dataclass(frozen=True)
class SearchResult:
    """One section that was found. `line` is `[title] passage`; `how` says which step found it; `collection` names the segment.
    `is_off_topic`: found by its words, and scored lower than nearly all right answers are: it says nothing about the question."""

    section: Section
    line: str
    how: str
    collection: str
    score: float = 0.0
    is_off_topic: bool = False


@dataclass(frozen=True)
class TraceStep:
    """One step of a search: what it was called, what it found with which scores, how long it took, and what is worth knowing."""

    name: str
    milliseconds: float = field(compare=False)
    hits: tuple[tuple[str, float], ...] = ()  # (title, score), best first
    note: str = ""


@dataclass(frozen=True)
class Search:
    """The results of one search, best first, and its trace."""

    query: str
    results: tuple[SearchResult, ...]
    trace: tuple[TraceStep, ...] = field(default=())

    @property
    def text(self) -> str:
        """The result as the model reads it."""
        return "\n".join(result.line for result in self.results) or NOTHING_FOUND

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the search: a name that was corrected, a part that was missing."""
        return tuple(dict.fromkeys(step.note for step in self.trace if step.note))
