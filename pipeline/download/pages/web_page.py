"""Extract the main text, title and license from the bytes of a web page.

In: the body of a response, and the charset that its header declares. Out: the text without navigation, headers, footers and the
like; the `<title>`; the license that the page itself declares (`rel=license`, Creative Commons' and Dublin Core's meta tags).
The extractor is resiliparse's rule-based one (Bevendorff et al., 2018): 49 MB/s of real pages where trafilatura reads 3.2. Of 36
pages with prose it keeps 90 kB that trafilatura drops (headings, lists of publications, all posts of a blog but the first; 66 of
70 randomly drawn lines are main text), and misses 88 bytes of trafilatura's; its own rule that treats most `<ul>` near the root as
menus is corrected here (6 kB of the 90).
Time: O(n) for real pages. Memory, measured: 7 times the page while it is parsed, 60 times for one that consists of tags only.
Charsets: pipeline/download/pages/charsets.py; superscripts: superscripts.py.
Covers (hostile input): pages whose nesting or attributes would stall the parser (`PageError`). Does not cover: text that scripts
would write; a license that applies to a part of the page only is taken for the whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]
from resiliparse.parse.html import HTMLTree

from pipeline.download.pages.charsets import decode, find_wide_encoding
from pipeline.download.pages.html_shape import Shape, measure_shape
from pipeline.download.pages.superscripts import mark_scripts, remove_marks, render_scripts
from pipeline.download.pages.web_licenses import UNKNOWN, combine_licenses

MAX_DEPTH = 1_000
MAX_ATTRIBUTES = 1_000
ITEM_MARK = b"\x1a"  # a control character that occurs in no text
DIGITS = "0123456789"
LICENSE_LINKS = "a[rel~=license],link[rel~=license]"
LICENSE_NAMES = ("dcterms.license", "DC.rights", "dc.rights", "license")
LICENSE_METAS = ",".join((*(f"meta[name='{name}']" for name in LICENSE_NAMES), "meta[property='cc:license']"))


class PageError(Exception):
    """Raised for a page that cannot be parsed in reasonable time."""


class WebPage(NamedTuple):
    """The content extracted from a page."""

    text: str
    title: str
    license: str


def read_html(body: bytes, charset: str = "") -> WebPage:
    """Extract the main text of an HTML page. Raise `PageError` if it would stall the parser."""
    if find_wide_encoding(body, charset):
        body, charset = decode(body, charset).encode(), "utf-8"
    body = mark_scripts(body)
    shape = measure_shape(body)
    if shape.depth > MAX_DEPTH or shape.attributes > MAX_ATTRIBUTES:
        raise PageError(f"nested {shape.depth} deep, {shape.attributes} attributes in a tag")
    tree = HTMLTree.parse(decode(_protect_lists(body, shape), charset))
    text = extract_plain_text(tree, main_content=True, alt_texts=False)
    license = _find_license(tree) if shape.has_license else UNKNOWN
    title = remove_marks(_clean(tree.title or ""))
    return WebPage(render_scripts(_clean(text)), " ".join(title.split()), license)


def read_plain(body: bytes, charset: str = "") -> WebPage:
    """Return a plain text unchanged but for Unix line endings."""
    return WebPage(_clean(decode(body, charset).replace("\r\n", "\n").replace("\r", "\n")), "", UNKNOWN)


def _protect_lists(body: bytes, shape: Shape) -> bytes:
    """Rewrite each `<ul>` that is not mostly links as an `<ol>` with marked items.

    The extractor drops a `<ul>` near the root, or with many links, as a menu, and keeps `<ol>`; `_clean` then replaces the numbers
    of marked items with bullets."""
    if not shape.lists:
        return body
    rewritten = bytearray(body)
    for position in shape.lists:
        rewritten[position] = ord("o")
    view, starts = memoryview(rewritten), [0, *shape.items]
    return ITEM_MARK.join([view[start:end] for start, end in zip(starts, [*shape.items, len(body)], strict=True)])


def _clean(text: str) -> str:
    """Replace the numbers of marked items with bullets, and remove null characters."""
    if ITEM_MARK.decode() in text:
        first, *rest = text.split(ITEM_MARK.decode())
        parts = [first]
        for part in rest:
            bare = parts[-1].removesuffix(". ").rstrip(DIGITS)
            if len(bare) < len(parts[-1]):
                parts[-1:] = bare, "• "
            parts.append(part.lstrip(" "))
        text = "".join(parts)
    return text.replace("\0", "") if "\0" in text else text


def _find_license(tree: Any) -> str:
    links = [node.getattr("href") or "" for node in tree.document.query_selector_all(LICENSE_LINKS)]
    metas = [node.getattr("content") or "" for node in tree.document.query_selector_all(LICENSE_METAS)]
    return combine_licenses([*links, *metas])
