"""Define what every parser returns: blocks of text with their place in the document, and the reason why there are none.

In: headings, paragraphs, list items, table rows and code in reading order. Out: the same, clean: no control characters (escape
codes never reach a terminal), Unix line breaks, no blank blocks. Control tokens of a chat template stay ordinary text; the
tokenizer encodes them as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

MAX_DOCUMENT_BYTES = 64_000_000  # of one document; a longer one is a reject, which bounds the memory of an import
# C0 and C1 controls but tab and line feed, and what PDF readers return for a character without a code point.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
BLANKS = re.compile(r"\s+")

Kind = Literal["heading", "text", "item", "row", "code"]


class Block(NamedTuple):
    """One heading, paragraph, list item, table row or piece of code.

    `level` is that of a heading, from 1. Lines are those of the source file and pages those of a PDF, from 1; 0 where there are
    none.
    """

    kind: Kind
    text: str
    level: int = 0
    line_start: int = 0
    line_end: int = 0
    page: int = 0


class ParsedDocument(NamedTuple):
    """A document as blocks. `title` is empty if the document states none; `notes` counts what could not be read in it."""

    title: str
    blocks: list[Block]
    notes: tuple[tuple[str, str], ...] = ()  # (reason, detail)


class ParseError(ValueError):
    """Raised for a document that cannot be read. `reason` is counted; `detail` is for the user."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def clean_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks without control characters, with collapsed white space outside code, and without blank ones."""
    for block in blocks:
        text = clean_text(block.text)
        text = text.strip("\n").rstrip() if block.kind == "code" else BLANKS.sub(" ", text).strip()
        if text:
            yield block._replace(text=text)


def clean_text(text: str) -> str:
    """Return the text with Unix line breaks, and without control characters and lone surrogates."""
    text = CONTROLS.sub("", re.sub("\r\n?|[\x0b\x0c]", "\n", text))
    return text if text.isascii() else text.encode("utf-8", "ignore").decode()


def make_document(title: str, blocks: Iterable[Block], notes: tuple[tuple[str, str], ...] = ()) -> ParsedDocument:
    """Return the document with clean blocks. Raise `ParseError` if no text is left.

    If the first heading is the only one of its level and no other is above it, it is the document's name and no section: it becomes
    the title if there is none, or if the stated one contains it (`Leave - Acme Intranet`).
    """
    cleaned = list(clean_blocks(blocks))
    headings = [at for at, block in enumerate(cleaned) if block.kind == "heading"]
    if len(headings) == len(cleaned):
        raise ParseError("no_text", "it has headings only" if cleaned else "it has no text")
    title = BLANKS.sub(" ", clean_text(title)).strip()
    if headings:
        first = cleaned[headings[0]]
        is_name = sum(cleaned[at].level <= first.level for at in headings) == 1
        if is_name and (not title or first.text in title):
            return ParsedDocument(first.text, [*cleaned[: headings[0]], *cleaned[headings[0] + 1 :]], notes)
    return ParsedDocument(title, cleaned, notes)
