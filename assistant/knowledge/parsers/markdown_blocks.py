"""Parse Markdown (CommonMark with tables) with markdown-it-py.

In: text. Out: blocks with the lines of the source. Emphasis, links and inline code lose their marks; images and raw HTML tags are
left out. Front matter between `---` lines gives the title and is no text. Time: O(n); markdown-it bounds nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from assistant.knowledge.parsers.layout import Block, Kind, ParsedDocument, make_document

FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?P<fields>.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
TITLE = re.compile(r"^title:[ \t]*(['\"]?)(?P<title>.+?)\1[ \t]*$", re.MULTILINE | re.IGNORECASE)
TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)
CELLS = ("th_open", "td_open")


def parse_markdown(text: str) -> ParsedDocument:
    """Return the blocks of a Markdown text. Raise `ParseError` if it has none."""
    title, n_skipped = "", 0
    if front := FRONT_MATTER.match(text):
        stated = TITLE.search(front["fields"])
        title = stated["title"] if stated else ""
        n_skipped = front[0].count("\n")
        text = text[front.end() :]
    parser = MarkdownIt("commonmark").enable("table")
    return make_document(title, list_blocks(parser.parse(text), n_skipped))


def list_blocks(tokens: Sequence[Token], n_skipped: int) -> Iterator[Block]:
    """Yield a block per heading, paragraph, item, table row and piece of code."""
    kinds: list[str] = []  # of the enclosing elements
    cells: list[str] = []
    lines, level = (0, 0), 0
    for token in tokens:
        if token.map:
            lines = (token.map[0] + 1 + n_skipped, max(token.map[1], token.map[0] + 1) + n_skipped)
        if token.nesting == 1:
            kinds.append(token.type)
            level = int(token.tag[1]) if token.type == "heading_open" else 0
        elif token.nesting == -1:
            kinds.pop()
            if token.type == "tr_close":
                yield Block("row", " | ".join(cells), 0, *lines)
                cells = []
        elif token.type in ("fence", "code_block"):
            yield Block("code", token.content, 0, *lines)
        elif token.type == "html_block":
            yield Block("text", TAG.sub(" ", token.content), 0, *lines)
        elif token.type == "inline":
            text = render_inline(token.children or [])
            if kinds[-1] in CELLS:
                cells.append(text)
            elif level:
                yield Block("heading", text, level, *lines)
            else:
                kind: Kind = "item" if "list_item_open" in kinds else "text"
                yield Block(kind, text, 0, *lines)


def render_inline(tokens: Sequence[Token]) -> str:
    """Return the text without marks."""
    pieces = {"softbreak": " ", "hardbreak": " ", "html_inline": "", "image": ""}
    return "".join(pieces.get(token.type, token.content) for token in tokens)
