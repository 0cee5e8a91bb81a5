"""Read the source `wikipedia`: dumps of a MediaWiki wiki (`pages-articles`, `pages-meta-current`), streamed.

In: `.xml`, plain or `.gz .bz2 .xz .zst`, of any size. Out: one document per article (namespace 0, the last revision) with its
clean text, title, URL and license; redirects, talk pages and other non-articles are counted; an oversized or empty page, and the
position where a dump is truncated or broken, becomes a reject. Time: O(n); the workers parse the wikitext.
Memory: two chunks per worker and one page, each at most `max_member_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from pipeline.download.pages.wiki.wikitext import WikitextError, convert_wikitext
from pipeline.download.params import Wikipedia
from pipeline.download.readers.chunks import Counted, Item, Problem, Raw, make_document, make_reject, open_chunked
from pipeline.download.readers.document import Document, Reading, Reject
from pipeline.download.readers.mediawiki import Dump, Site, WikiPage, XmlError
from pipeline.storage.streams import CountedFile, decompress, split_name

HIDDEN_NAMESPACES = (6, 14)  # files and categories


class Wiki(NamedTuple):
    """What all pages of a dump share: the prefix of their URLs, the names of the namespaces whose links are invisible, and the
    language."""

    base: str
    hidden: frozenset[str]
    language: str


def open_source(params: Wikipedia, setting: str) -> Reading:
    """Open the articles of all dumps. Raise `UserError` if there are none."""
    return open_chunked(params, setting, _read_pages, _make_document)


def _read_pages(file: CountedFile, name: str, max_bytes: int) -> Iterator[Item]:
    kind, compression = split_name(name)
    if kind != ".xml" and ".xml" not in name.lower():  # parts of a large dump are named `…-articles1.xml-p1p41242.bz2`
        yield Problem({}, "unknown_format", "known are .xml and .xml.gz .bz2 .xz .zst")
        return
    dump, wiki = Dump(max_bytes), None
    try:
        for page in dump.read_pages(decompress(file, compression)):
            wiki = wiki or _make_wiki(dump.site)  # known before the first page
            if page.n_revisions > 1:
                yield Counted("wikipedia_older_revisions", page.n_revisions - 1)
            reason = _get_skip_reason(page, dump.site)
            yield Counted(reason) if reason else Raw((page, wiki), len(page.text))
    except XmlError as error:
        yield Problem({}, "unreadable", str(error))


def _get_skip_reason(page: WikiPage, site: Site) -> str:
    """Return why a page is not an article; empty if it is one."""
    prefix, colon, _ = page.title.partition(":")
    is_named = bool(colon) and any(prefix == name for key, name in (*site.namespaces.items(), *site.aliases) if key)
    if page.namespace > 0 or page.namespace < -1 or (page.namespace == -1 and is_named):
        return "wikipedia_other_namespaces"
    if page.is_redirect or page.text[:64].lstrip()[:9].upper() == "#REDIRECT":
        return "wikipedia_redirects"
    return "" if page.model == "wikitext" else "wikipedia_other_models"


def _make_wiki(site: Site) -> Wiki:
    declared = [*site.namespaces.items(), *site.aliases]
    names = frozenset(name.lower() for key, name in declared if key in HIDDEN_NAMESPACES and name)
    host = urlsplit(site.base).hostname or ""
    return Wiki(site.base.rpartition("/")[0], names, (site.language or host.partition(".")[0]).lower())


def _make_document(params: Wikipedia, file: str, item: tuple[WikiPage, Wiki]) -> Document | Reject:
    source, (page, wiki) = f"wikipedia/{params.name}", item
    where = {"page": page.id, "revision": page.revision}
    if page.is_too_large or len(page.text.encode("utf-8", "surrogatepass")) > params.max_member_bytes:
        detail = f"{page.title}: more than max_member_bytes = {params.max_member_bytes}"
        return make_reject(source, file, where, "too_large", detail)
    try:
        text = convert_wikitext(page.text, wiki.hidden, wiki.language)
    except WikitextError as error:
        return make_reject(source, file, where, "bad_wikitext", f"{page.title}: {error}")
    url = f"{wiki.base}/{quote(page.title.replace(' ', '_'), safe=':/,()!*@;~')}" if wiki.base else ""
    return make_document(source, file, where, text, page.title, url, params.license)
