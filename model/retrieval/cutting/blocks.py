"""Group the paragraphs of a text into sections of a bounded length, as character ranges that never end inside a sentence.

In: a text and a range of it. Out: ranges. A paragraph that is too long by itself is divided after a sentence, or after a line
where it is code or a list; a single sentence stays whole, however long it is. Time: O(characters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from model.retrieval.cutting.sentences import locate_sentences

_BLOCK = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")  # lines that are not blank
_CODE_LINE = re.compile(r"(?: {2,}|\t|>>>|\.\.\.|[-*+•|] |\d+[.)] )", re.MULTILINE)
_LINE = re.compile(r"[^\n]*\n?")


class Span(NamedTuple):
    """A range of characters."""

    start: int
    end: int


def locate_blocks(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the paragraphs of a range: runs of lines that are not blank."""
    for match in _BLOCK.finditer(text, start, end):
        yield Span(match.start(), match.end())


def group_blocks(text: str, start: int, end: int, max_chars: int) -> Iterator[Span]:
    """Yield ranges of whole paragraphs, sentences or lines, of at most `max_chars` where these are not longer themselves."""
    first, last = -1, -1
    for block in locate_blocks(text, start, end):
        pieces = [block] if block.end - block.start <= max_chars else _divide(text, block)
        for piece in pieces:
            if first >= 0 and piece.end - first > max_chars:
                yield Span(first, last)
                first = -1
            first = piece.start if first < 0 else first
            last = piece.end
    if first >= 0:
        yield Span(first, last)


def _divide(text: str, block: Span) -> list[Span]:
    """Return the sentences of a paragraph of prose, the lines of code and lists."""
    part = text[block.start : block.end]
    if 2 * sum(1 for _ in _CODE_LINE.finditer(part)) > part.count("\n") + 1 and "\n" in part:
        return [Span(block.start + m.start(), block.start + m.end()) for m in _LINE.finditer(part) if m[0].strip()]
    return [Span(block.start + start, block.start + end) for start, end in locate_sentences(part)]


def trim(text: str, start: int, end: int) -> Span:
    """Return the range without blank lines at its beginning and white space at its end."""
    while end > start and text[end - 1].isspace():
        end -= 1
    at = start
    while at < end and text[at].isspace():
        at += 1
        if text[at - 1] == "\n":
            start = at
    return Span(start, max(start, end))
