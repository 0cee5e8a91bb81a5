"""Lay blocks out as the text of a document, and cut it into sections with their exact place in the source.

In: a parsed document. Out: its text, and sections whose `start` and `end` are positions in that text, with heading path, page,
paragraph and the lines of the source file. Headings are in the path of the sections below them and not in the text. Time:
O(characters).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from assistant.knowledge.parsers.layout import Block
from model.retrieval.cutting.headings import Mark
from model.retrieval.cutting.source_texts import SourceText, cut_document
from model.retrieval.sections import Section

MAX_SECTION_CHARS = 600  # about two passages as the model sees them: the answer is rarely cut off
MARKS = {"item": "- {}", "row": "| {} |"}
TIGHT = ("item", "row")  # consecutive ones are one paragraph


class LaidOut(NamedTuple):
    """The text of a document, where its headings and pages begin, and where each block begins."""

    text: str
    marks: tuple[Mark, ...]
    starts: list[int]
    blocks: list[Block]


def lay_out(blocks: Sequence[Block]) -> LaidOut:
    """Join the blocks. A mark begins at each change of heading or page."""
    pieces: list[str] = []
    marks: list[Mark] = []
    starts: list[int] = []
    placed: list[Block] = []
    path: list[tuple[int, str]] = []
    at = 0
    for block in blocks:
        if block.kind == "heading":
            path = [each for each in path if each[0] < block.level] + [(block.level, block.text)]
            continue
        mark = Mark(at, tuple(title for _, title in path), block.page)
        if placed:
            is_tight = block.kind in TIGHT and placed[-1].kind == block.kind
            pieces.append("\n" if is_tight else "\n\n")
            at += len(pieces[-1])
            mark = mark._replace(start=at)
        if not marks or (marks[-1].heading, marks[-1].page) != (mark.heading, mark.page):
            marks.append(mark)
        text = MARKS.get(block.kind, "{}").replace("{}", block.text)
        pieces.append(text)
        starts.append(at)
        placed.append(block)
        at += len(text)
    return LaidOut("".join(pieces), tuple(marks), starts, placed)


def cut_blocks(laid_out: LaidOut, source: SourceText) -> list[Section]:
    """Return the sections of a document. `source` has its text, id, title, URL and license."""
    sections = cut_document(source._replace(marks=laid_out.marks), MAX_SECTION_CHARS)
    return [_place_lines(section, laid_out, number) for number, section in enumerate(sections)]


def _place_lines(section: Section, laid_out: LaidOut, number: int) -> Section:
    """Return the section with the lines of the source file; without any where the format has none."""
    first = max(bisect_right(laid_out.starts, section.start) - 1, 0)
    last = max(bisect_right(laid_out.starts, max(section.end - 1, section.start)) - 1, first)
    blocks = laid_out.blocks[first : last + 1]
    line_start = min(block.line_start for block in blocks)
    return section._replace(
        id=f"{section.doc_id}-{number}",
        paragraph=first + 1,
        line_start=line_start,
        line_end=max(block.line_end for block in blocks) if line_start else 0,
    )
