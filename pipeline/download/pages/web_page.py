"""Extract the main text, title and license from the bytes of a web page.

In: the body of a response, and the charset that its header declares. Out: the text without navigation, headers, footers and the
like (main_text.py); the `<title>`; the license that the page itself declares (`rel=license`, Creative Commons' and Dublin Core's
meta tags). The parser, lexbor's, reads only the blocks that are main text; resiliparse lays out their headings, lists and tables.
Time: O(n) for real pages. Memory, measured: 7 times the page while it is parsed, 60 times for one that consists of tags only.
Charsets: pipeline/download/pages/charsets.py; superscripts: superscripts.py.
Covers (hostile input): pages whose nesting or attributes would stall the parser (`PageError`). Does not cover: text that scripts
would write; a license that applies to a part of the page only is taken for the whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]
from resiliparse.parse.html import HTMLTree

from pipeline.download.pages.blocks.main_text import find_main_text, find_title
from pipeline.download.pages.blocks.page_blocks import split_blocks
from pipeline.download.pages.charsets import decode
from pipeline.download.pages.html_shape import measure_shape
from pipeline.download.pages.superscripts import mark_scripts, render_scripts
from pipeline.download.pages.web_licenses import UNKNOWN, combine_licenses

MAX_DEPTH = 1_000
MAX_ATTRIBUTES = 1_000
MAX_BLOCKS = 300_000  # one kilobyte of memory each; 3,309 pages of public collections have 6,220 at most
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
    page = decode(body, charset).encode()
    shape = measure_shape(page)
    if shape.depth > MAX_DEPTH or shape.attributes > MAX_ATTRIBUTES:
        raise PageError(f"nested {shape.depth} deep, {shape.attributes} attributes in a tag")
    blocks = split_blocks(page)
    if len(blocks.blocks) > MAX_BLOCKS:
        raise PageError(f"{len(blocks.blocks)} blocks of text")
    main = mark_scripts(find_main_text(page, blocks)).decode("utf-8", "ignore")
    text = extract_plain_text(HTMLTree.parse(main), main_content=False, alt_texts=False) if main else ""
    license = _find_license(b"".join([page[start:end] for start, end in shape.license_tags]))
    return WebPage(render_scripts(_clean(text)), " ".join(_clean(find_title(page, blocks)).split()), license)


def read_plain(body: bytes, charset: str = "") -> WebPage:
    """Return a plain text unchanged but for Unix line endings."""
    return WebPage(_clean(decode(body, charset).replace("\r\n", "\n").replace("\r", "\n")), "", UNKNOWN)


def _clean(text: str) -> str:
    """Remove null characters."""
    return text.replace("\0", "") if "\0" in text else text


def _find_license(tags: bytes) -> str:
    """Return the license that links and meta tags name."""
    if not tags:
        return UNKNOWN
    document: Any = HTMLTree.parse(tags.decode("utf-8", "ignore")).document
    links = [node.getattr("href") or "" for node in document.query_selector_all(LICENSE_LINKS)]
    metas = [node.getattr("content") or "" for node in document.query_selector_all(LICENSE_METAS)]
    return combine_licenses([*links, *metas])
