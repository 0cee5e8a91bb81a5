"""A web page's bytes to its main text, title and license.

In: the body of a response, and the charset that its header declares. Out: the text without navigation, headers, footers and the
like; the `<title>`; the license that the page itself names (`rel=license`, Creative Commons' and Dublin Core's meta tags).
The extractor is resiliparse's rule-based one (Bevendorff et al., 2018): 49 MB/s of real pages where trafilatura reads 3.2. Of 36
pages with prose it keeps 90 kB that trafilatura drops (headings, lists of publications, all posts of a blog but the first; 66 of 70
lines drawn by chance are main text), and lacks 88 bytes of trafilatura's; its own rule that takes most `<ul>` near the root for
menus is set right here (6 kB of the 90).
Order n for real pages. Memory, measured: 7 times the page while it is parsed, 60 times for one that is nothing but tags.
Charset: valid UTF-8 is UTF-8, whatever is declared; else the header's, else the one in `<meta>`, else what the bytes look like.
Covered against hostile input: pages whose nesting or attributes would stall the parser (`PageError`). Not covered: text that
scripts would write; a license that the page gives to a part of it only is taken for the whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]
from resiliparse.parse.encoding import (  # pyright: ignore[reportMissingModuleSource]
    bytes_to_str,
    detect_encoding,
    map_encoding_to_html5,
)
from resiliparse.parse.html import HTMLTree

from pipeline.download.pages.html_shape import Shape, shape
from pipeline.download.pages.web_licenses import UNKNOWN, license_of

MAX_DEPTH = 1_000
MAX_ATTRIBUTES = 1_000
MARK = b"\x1a"  # no letter of any text
DIGITS = "0123456789"
LICENSE_LINKS = "a[rel~=license],link[rel~=license]"
LICENSE_NAMES = ("dcterms.license", "DC.rights", "dc.rights", "license")
LICENSE_METAS = ",".join((*(f"meta[name='{name}']" for name in LICENSE_NAMES), "meta[property='cc:license']"))
ESCAPE = b"\x1b"  # shifts of ISO-2022: bytes that look like ASCII and are not


class PageError(Exception):
    """Built so that it can't be parsed in reasonable time."""


class WebPage(NamedTuple):
    """What a page says."""

    text: str
    title: str
    license: str


def read_html(body: bytes, charset: str = "") -> WebPage:
    """The main text of an HTML page. Raises `PageError`."""
    found = shape(body)
    if found.depth > MAX_DEPTH or found.attributes > MAX_ATTRIBUTES:
        raise PageError(f"nested {found.depth} deep, {found.attributes} attributes in a tag")
    tree = HTMLTree.parse(decode(_with_lists(body, found), charset))
    text = extract_plain_text(tree, main_content=True, alt_texts=False)
    license = _license(tree) if found.has_license else UNKNOWN
    return WebPage(_clean(text), " ".join(_clean(tree.title or "").split()), license)


def read_plain(body: bytes, charset: str = "") -> WebPage:
    """A plain text as it stands, with Unix line ends."""
    return WebPage(_clean(decode(body, charset).replace("\r\n", "\n").replace("\r", "\n")), "", UNKNOWN)


def decode(body: bytes, charset: str = "") -> str:
    """The characters of a text of the web; what is no character in its charset is left out."""
    declared = charset.strip().strip("\"'").lower()
    try:
        if ESCAPE not in body and not body.startswith((b"\xff\xfe", b"\xfe\xff")):
            return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "ignore")
    found = map_encoding_to_html5(declared, False) if declared else None
    found = found or detect_encoding(body, from_html_meta=True) or "utf-8"
    return bytes_to_str(body, found, "ignore")


def _with_lists(body: bytes, found: Shape) -> bytes:
    """The extractor takes a `<ul>` near the root, or with many links, for a menu. One whose text is not mostly links is none: it
    is passed off as an `<ol>`, which is kept, with its items marked, so that bullets can stand for their numbers again."""
    if not found.lists:
        return body
    letters = bytearray(body)
    for at in found.lists:
        letters[at] = ord("o")
    whole, starts = memoryview(letters), [0, *found.items]
    return MARK.join([whole[start:end] for start, end in zip(starts, [*found.items, len(body)], strict=True)])


def _clean(text: str) -> str:
    if MARK.decode() in text:
        first, *rest = text.split(MARK.decode())
        parts = [first]
        for part in rest:
            bare = parts[-1].removesuffix(". ").rstrip(DIGITS)
            if len(bare) < len(parts[-1]):
                parts[-1:] = bare, "• "
            parts.append(part.lstrip(" "))
        text = "".join(parts)
    return text.replace("\0", "") if "\0" in text else text


def _license(tree: Any) -> str:
    links = [node.getattr("href") or "" for node in tree.document.query_selector_all(LICENSE_LINKS)]
    metas = [node.getattr("content") or "" for node in tree.document.query_selector_all(LICENSE_METAS)]
    return license_of([*links, *metas])
