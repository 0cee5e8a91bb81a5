"""Make citations by verifying quotations against the sections that a search returned, never by asking the model.

In: a parsed quotation and the sections that were shown under its title. Out: the document, the section's path, the exact character
range, the hash and the place; or none, if no section contains the quotation. A passage shows a section on one line, so white
space and punctuation may differ (`axis : int` is shown as `axis: int`); every word must be there, in order and without a gap.
Of several entries that are quoted together (`"axis: int" "out: array"`), each must be.
Needs the standard library only. Time: O(characters of the sections).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from model.grounding.answers import Quote

ENTRY_BREAK = '" "'  # between entries of a passage that are quoted together
CUT = "…"  # at the end of a passage's text that was too long for its line
_WORD = re.compile(r"\w+")
MAX_QUOTE_CHARS = 4_000


class Citable(Protocol):
    """What a citation needs of a section (model.retrieval.sections.Section has it)."""

    @property
    def doc_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def heading(self) -> Sequence[str]: ...
    @property
    def text(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def page(self) -> int: ...
    @property
    def line_start(self) -> int: ...
    @property
    def line_end(self) -> int: ...
    @property
    def url(self) -> str: ...
    @property
    def license(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def signature(self) -> str: ...


@dataclass(frozen=True)
class Citation:
    """The exact place of a quotation. `start` and `end` are character offsets in the document's text; both are those of the whole
    section if the quotation is its signature, which the text need not contain. `sha256` is the hash of the section's text,
    `line_start` and `line_end` are the quotation's lines (0: the document has none), `page` counts from 1 (0: none)."""

    doc_id: str
    title: str
    heading: tuple[str, ...]
    start: int
    end: int
    page: int
    line_start: int
    line_end: int
    url: str
    license: str
    sha256: str
    text: str


def verify_quote(quote: Quote, sections: Iterable[Citable]) -> Citation | None:
    """Return the place of a quotation in the first of the sections that has it; None if none does.

    `sections` are those that were shown under the cited title, which may name an entry (`numpy.sum: axis`) of a section.
    """
    for section in sections:
        spans = [find_words(part, section.text) for part in quote.text.split(ENTRY_BREAK)]
        if all(spans):
            return _cite(section, quote, min(span[0] for span in spans if span), max(span[1] for span in spans if span))
        if section.signature and find_words(quote.text, section.signature) is not None:
            return _cite(section, quote, 0, len(section.text))
    return None


def find_words(quoted: str, text: str) -> tuple[int, int] | None:
    """Return the first range of `text` with the words of `quoted` in order and nothing but punctuation and white space between
    them. A cut at the end (`…`) may be inside a word. None if there is none, or if nothing is quoted."""
    words = _WORD.findall(quoted[:MAX_QUOTE_CHARS])
    if not words:
        at = text.find(quoted.strip()) if quoted.strip() else -1
        return (at, at + len(quoted.strip())) if at >= 0 else None
    if len(quoted) > MAX_QUOTE_CHARS:
        return None
    end = "" if quoted.rstrip().endswith(CUT) else r"(?!\w)"
    match = re.search(r"(?<!\w)" + r"\W+".join(map(re.escape, words)) + end, text)
    return None if match is None else (match.start(), _include_punctuation(quoted, text, match.end()))


def _include_punctuation(quoted: str, text: str, end: int) -> int:
    """Return the end of the range with the punctuation that ends the quotation, as far as the text has it too."""
    tail = re.search(r"\W*\Z", quoted.rstrip(CUT).rstrip())
    for character in tail[0] if tail else "":
        if text[end : end + 1] != character:
            break
        end += 1
    return end


def _cite(section: Citable, quote: Quote, start: int, end: int) -> Citation:
    first = section.line_start + section.text.count("\n", 0, start) if section.line_start else 0
    last = first + section.text.count("\n", start, end) if section.line_start else 0
    return Citation(
        doc_id=section.doc_id,
        title=quote.title,
        heading=tuple(section.heading),
        start=section.start + start,
        end=section.start + end,
        page=section.page,
        line_start=first,
        line_end=last,
        url=section.url,
        license=section.license,
        sha256=section.sha256,
        text=quote.text,
    )


def format_place(citation: Citation) -> str:
    """Return where a quotation is, in words: `numpy.sum › Parameters, lines 7–8, characters 173–208 (https://…)`."""
    document = citation.title.partition(": ")[0] if citation.heading else citation.title
    parts = [" › ".join(dict.fromkeys([document, *citation.heading]))]
    if citation.page:
        parts.append(f"page {citation.page}")
    if citation.line_start:
        is_one = citation.line_start == citation.line_end
        parts.append(f"line {citation.line_start}" if is_one else f"lines {citation.line_start}–{citation.line_end}")
    parts.append(f"characters {citation.start}–{citation.end}")
    return f"{', '.join(parts)} ({citation.url or f'document {citation.doc_id[:8]}'})"
