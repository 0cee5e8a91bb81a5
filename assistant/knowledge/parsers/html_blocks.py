"""Parse HTML: headings, paragraphs, list items, table rows and code of the page's main part.

In: the page, decoded. Out: blocks without lines (a rendered page has none). The main part is `<main>`, the only `<article>`, or
what has the role `main`, else the whole body; navigation, headers, footers, forms, scripts and hidden elements are left out.
lexbor parses, by resiliparse. Time and memory: O(n); the caller refuses pages whose nesting would stall the parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resiliparse.parse.html import HTMLTree, NodeType  # pyright: ignore[reportMissingModuleSource]

from assistant.knowledge.parsers.layout import Block, Kind, ParsedDocument, make_document

HEADINGS = {f"h{level}": level for level in range(1, 7)}
UNREAD = "script style noscript template nav header footer aside form button select textarea svg math canvas iframe head title"
LEFT_OUT = frozenset(UNREAD.split())
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("li", "dt", "dd"), "item"),
    **dict.fromkeys(HEADINGS, "heading"),
    "pre": "code",
    "tr": "row",
    "blockquote": "text",
}
CONTAINERS = "address article body center details div dl fieldset figcaption figure hr html main ol p section summary table tbody"
OPEN_BLOCK = frozenset(
    (*CONTAINERS.split(), "td", "tfoot", "th", "thead", "ul", *KINDS)
)  # each ends the paragraph before it
MAIN = ("main", "[role=main]")


def parse_html(page: str) -> ParsedDocument:
    """Return the blocks of a page. Raise `ParseError` if it has no text."""
    tree: Any = HTMLTree.parse(page)
    title = tree.title or ""
    root = _find_main(tree)
    return make_document(title, _Walker().walk(root) if root is not None else [])


def _find_main(tree: Any) -> Any:
    """Return the element that contains the main part."""
    body = tree.body
    if body is None:
        return None
    for selector in MAIN:
        found = body.query_selector(selector)
        if found is not None and found.text.strip():
            return found
    articles = body.query_selector_all("article")
    return articles[0] if len(articles) == 1 and articles[0].text.strip() else body


class _Walker:
    """Collect text in document order, without recursion: a page may nest a thousand deep."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.kind: Kind = "text"
        self.level = 0

    def walk(self, root: Any) -> Iterator[Block]:
        """Yield the blocks below an element."""
        stack: list[tuple[Any, bool]] = [(root, False)]
        around: list[tuple[Kind, int]] = [("text", 0)]
        while stack:
            node, is_end = stack.pop()
            if is_end:
                if node in OPEN_BLOCK:
                    if around[-1][0] == "row" and node in ("td", "th"):
                        self.pieces.append(" | ")
                    elif around[-1][0] != "row" or node == "tr":
                        yield from self._flush()
                    if node in KINDS:
                        around.pop()
                        self.kind, self.level = around[-1]
                continue
            if node.type == NodeType.TEXT:
                self.pieces.append(node.text)
            elif node.type == NodeType.ELEMENT and not _is_left_out(node):
                tag = node.tag
                if tag == "br":
                    self.pieces.append("\n")
                elif tag in OPEN_BLOCK:
                    if around[-1][0] != "row":
                        yield from self._flush()
                    if tag in KINDS:
                        kind = around[-1][0] if around[-1][0] in ("row", "heading") else KINDS.get(tag, "text")
                        around.append((kind, HEADINGS.get(tag, 0)))
                        self.kind, self.level = around[-1]
                stack.append((tag, True))
                stack += [(child, False) for child in reversed(node.child_nodes)]
        yield from self._flush()

    def _flush(self) -> Iterator[Block]:
        text = "".join(self.pieces)
        self.pieces = []
        if self.kind == "row":
            text = " | ".join(cell.strip() for cell in text.removesuffix(" | ").split(" | "))
        yield Block(self.kind, text, self.level)


def _is_left_out(node: Any) -> bool:
    return node.tag in LEFT_OUT or node.hasattr("hidden") or node.getattr("aria-hidden") == "true"
