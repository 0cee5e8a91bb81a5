"""Parse plain text: paragraphs are separated by blank lines.

In: text. Out: blocks with the lines of the source; no headings, so the sections carry the document's title. Time: O(n).
"""

from __future__ import annotations

from collections.abc import Iterator

from assistant.knowledge.parsers.layout import Block, ParsedDocument, make_document


def parse_plain(text: str) -> ParsedDocument:
    """Return the paragraphs of a plain text. Raise `ParseError` if it has none."""
    return make_document("", _list_paragraphs(text))


def _list_paragraphs(text: str) -> Iterator[Block]:
    held: list[str] = []
    number = 0
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            held.append(line)
        elif held:
            yield Block("text", "\n".join(held), 0, number - len(held), number - 1)
            held = []
    if held:
        yield Block("text", "\n".join(held), 0, number - len(held) + 1, number)
