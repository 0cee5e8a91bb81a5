"""Parse reStructuredText with docutils, with inclusion of files and raw output switched off.

In: text. Out: blocks with the lines of the source. Roles and directives that docutils does not know, such as Sphinx's, keep their
contents. Time: about 1 s per MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import dedent

from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Parser
from docutils.utils import new_document

from assistant.knowledge.parsers.layout import Block, Kind, ParsedDocument, make_document

NO_TEXT = ("include", "raw", "toctree", "image", "figure", "csv-table", "contents", "index", "highlight")
PEP = "PEP: "  # Python Enhancement Proposals begin with the fields of a mail
SILENT = 5  # above every level of docutils' messages
ROLE = re.compile(r"^:[\w:.+-]+:`|`:[\w:.+-]+:$|^`|`$|^\|+|\|+_*$")
TARGET = re.compile(r"\s*<[^<>]*>$")  # `text <target>`
DIRECTIVE = re.compile(r"\A\.\.[ \t]+(?:\|[^|]*\|[ \t]+)?(?P<name>[\w:+.-]+)::[ \t]*(?P<argument>.*)")
OPTION = re.compile(r"^\s*:[\w-]+:.*$", re.MULTILINE)
UNREAD = (
    nodes.comment,
    nodes.substitution_definition,
    nodes.target,
    nodes.image,
    nodes.raw,
    nodes.pending,
    nodes.docinfo,
)


def parse_rst(text: str) -> ParsedDocument:
    """Return the blocks of a reStructuredText document. Raise `ParseError` if it has none."""
    settings = get_default_settings(Parser())
    settings.report_level = settings.halt_level = SILENT
    settings.file_insertion_enabled = settings.raw_enabled = False
    settings.warning_stream = False
    settings.line_length_limit = len(text) + 1
    document = new_document("document", settings)
    Parser(rfc2822=text.startswith(PEP)).parse(text, document)
    return make_document(_find_title(document), list_blocks(document, 0, text.split("\n")))


def _find_title(document: nodes.document) -> str:
    """Return the title in the field list at the beginning, as PEPs have it; else nothing."""
    first = document.children[0] if document.children else None
    fields = first if isinstance(first, nodes.field_list) else ()
    values = {field[0].astext().lower(): field[1].astext() for field in fields if isinstance(field, nodes.field)}
    number = values.get("pep", "")
    title = values.get("title", "")
    return f"PEP {number}: {title}" if number and title else title


def list_blocks(parent: nodes.Element, level: int, source: list[str], kind: Kind = "text") -> Iterator[Block]:
    """Yield the blocks below a node; `level` is the number of sections around it."""
    for node in parent.children:
        line = _find_line(node)
        if isinstance(node, UNREAD) or not isinstance(node, nodes.Element):
            continue
        if isinstance(node, nodes.title | nodes.rubric):
            top = max(line - 1, 1)  # docutils notes the underline
            yield Block("heading", render(node), max(level, 1), top, line)
        elif isinstance(node, nodes.system_message):
            yield from _keep_contents(node)
        elif isinstance(node, nodes.literal_block | nodes.doctest_block):
            yield Block("code", node.astext(), 0, line, line + node.astext().count("\n"))
        elif isinstance(node, nodes.row):
            cells = [" ".join(render(each) for each in entry.children) for entry in node.children]
            yield Block("row", " | ".join(cells), 0, line, line)
        elif isinstance(node, nodes.field | nodes.definition_list_item | nodes.option_list_item):
            yield from _join_term(node, level, source, line)
        elif isinstance(node, nodes.paragraph | nodes.line_block | nodes.term | nodes.attribution):
            end = line
            while end < len(source) and line and source[end].strip():
                end += 1
            yield Block(kind, render(node), 0, line, max(line, min(end, line + node.rawsource.count("\n"))))
        else:
            inner: Kind = "item" if isinstance(node, nodes.list_item) else kind
            yield from list_blocks(node, level + isinstance(node, nodes.section), source, inner)


def _join_term(node: nodes.Element, level: int, source: list[str], line: int) -> Iterator[Block]:
    """Yield a term together with the first paragraph of its definition, then the rest."""
    *terms, body = node.children
    name = ", ".join(render(term) for term in terms)
    blocks = list(list_blocks(body, level, source, "item")) if isinstance(body, nodes.Element) else []
    if blocks and blocks[0].kind in ("item", "text"):
        first = blocks.pop(0)
        yield first._replace(kind="item", text=f"{name}: {first.text}", line_start=line or first.line_start)
    else:
        yield Block("item", name, 0, line, line)
    yield from blocks


def _find_line(node: nodes.Node) -> int:
    """Return the line where a node begins, taken from the first node below it that knows."""
    if node.line:
        return node.line
    return next((each.line for each in node.findall(nodes.Element) if each.line), 0)


def _keep_contents(message: nodes.system_message) -> Iterator[Block]:
    """Yield the contents of a directive that docutils does not know; any other message is about markup, and no text."""
    for block in message.findall(nodes.literal_block):
        head, _, body = block.astext().partition("\n")
        directive = DIRECTIVE.match(head)
        if directive is None or directive["name"] in NO_TEXT:
            continue
        line, is_code = message.get("line", 0), "code" in directive["name"]
        body = dedent(OPTION.sub("", body))
        text = body if is_code else f"{directive['argument']}\n{body}"
        yield Block("code" if is_code else "text", text, 0, line, line + block.astext().count("\n"))


def render(node: nodes.Node) -> str:
    """Return the text of a node; roles that docutils does not know become their contents."""
    if isinstance(node, nodes.system_message | nodes.image):
        return ""
    if isinstance(node, nodes.problematic):
        return TARGET.sub("", ROLE.sub("", node.astext())).lstrip("~!")
    if isinstance(node, nodes.Text) or not node.children:
        return node.astext()
    return ("\n" if isinstance(node, nodes.line_block) else "").join(render(child) for child in node.children)
