"""Cut a unit's text into the parts that embedder and reranker tell apart: title, first sentence, rest, facets.

In: the units of a segment. Out: texts by unit. The head line of a symbol's section (name and signature) is in no part: the title
has its words. Time: O(characters), 2 CPU-s for 40 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from model.retrieval.cutting.sentences import extract_paragraphs, split_sentences
from model.retrieval.segment import Segment
from model.retrieval.segment_parts import UnitTexts

MAX_FIRST_CHARS = 1_500  # of a unit's text, in which the first sentence begins and ends


class UnitParts(NamedTuple):
    """Texts by unit. A unit without a sentence of prose has an empty `first`; `rest` then has all of its text."""

    titles: list[str]
    firsts: list[str]
    rests: list[str]
    facets: list[str]

    def join(self) -> list[str]:
        """Return the whole searchable text of each unit."""
        return ["\n".join(part) for part in zip(*self, strict=True)]


def cut_units(segment: Segment, rows: Iterable[int] | None = None) -> UnitParts:
    """Return the parts of all units of a segment, or of some."""
    sections = segment.sections
    if rows is None:
        titles, kinds, headings, texts = (sections.column(name) for name in ("title", "kind", "heading", "text"))
        numbers: Sequence[int] = range(sections.n_units)
    else:
        numbers = list(rows)
        needed = {at for row in numbers for at in (row, *segment.list_facets(row))}
        columns = [{at: sections.value(name, at) for at in needed} for name in ("title", "kind", "heading", "text")]
        titles, kinds, headings, texts = columns
    full = UnitTexts(
        [" ".join([titles[row], *headings[row][:-1]]) for row in numbers],
        [texts[row] for row in numbers],
        ["\n".join(texts[at] for at in segment.list_facets(row)) if kinds[row] == "symbol" else "" for row in numbers],
    )
    return cut_unit_texts(full, [titles[row] if kinds[row] == "symbol" else "" for row in numbers])


def cut_unit_texts(texts: UnitTexts, names: Sequence[str]) -> UnitParts:
    """Return the parts of units from their texts. `names`: those of symbols, whose texts begin with them, or nothing."""
    firsts, rests = [], []
    for name, main in zip(names, texts.mains, strict=True):
        first, rest = split_first_sentence(strip_head(main, name) if name else main)
        firsts.append(first)
        rests.append(rest)
    return UnitParts(texts.titles, firsts, rests, texts.facets)


def strip_head(text: str, title: str) -> str:
    """Return a symbol's text without its first line `numpy.sum(a, axis=None)`; other text unchanged."""
    head, blank, body = text.partition("\n\n")
    if not head.startswith(title):
        return text
    return body if blank else ""


def split_first_sentence(text: str) -> tuple[str, str]:
    """Return the first sentence of prose and the text without it; ("", text) if there is none."""
    paragraph = next(extract_paragraphs(text[:MAX_FIRST_CHARS]), "")
    first = split_sentences(paragraph)[0] if paragraph else ""
    words = first.split()
    start = text.find(words[0]) if words else -1
    end = start
    for word in words if start >= 0 else ():
        if not text.startswith(word, end):
            return "", text  # the sentence is not in the text as it is, or stands behind other words
        end += len(word)
        while end < len(text) and text[end].isspace():
            end += 1
    return (first, text[:start] + text[end:]) if end > start else ("", text)
