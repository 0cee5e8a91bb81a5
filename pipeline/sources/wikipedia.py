"""Source `wikipedia`: dumps of a MediaWiki wiki (`pages-articles`, `pages-meta-current`), streamed.

In: `.xml`, plain or `.gz .bz2 .xz .zst`, of any size. Out: one document an article (namespace 0, the last revision) with its
clean text, title, URL and licence; redirects, talk pages and what else is no article are counted; a page that is too long or
empty, and the place where a dump is cut off or broken, is a reject. Order n; the parsing of wikitext is spread over the
workers.
Memory: two chunks a worker and one page, each at most `max_member_bytes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from pipeline.params import Wikipedia
from pipeline.sources.chunks import (
    BROKEN,
    CHUNK_BYTES,
    CHUNK_PAGES,
    Chunk,
    Problem,
    broken,
    finished,
    open_chunked,
    reject,
)
from pipeline.sources.document import Batch, Document, Reading, Reject
from pipeline.sources.mediawiki import Dump, Page, Site, XmlError
from pipeline.storage.streams import CountedFile, split_name, unpacked
from pipeline.text.wikitext import FILE_NAMES, WikitextError, plain

HIDDEN_NAMESPACES = (6, 14)  # files and categories


class Wiki(NamedTuple):
    """What all pages of a dump share: where their URLs begin, and the names of the namespaces whose links show nothing."""

    base: str
    hidden: frozenset[str]


def open_source(params: Wikipedia, setting: str) -> Reading:
    """The articles of all dumps. Raises `UserError` if there are none."""

    def cut(file: CountedFile, name: str) -> Iterator[Chunk]:
        return _cut(file, name, params.max_member_bytes)

    return open_chunked(params, setting, cut, documents)


def _cut(file: CountedFile, name: str, max_bytes: int) -> Iterator[Chunk]:
    kind, compression = split_name(name)
    if kind != ".xml" and ".xml" not in name.lower():  # the parts of a large dump are `…-articles1.xml-p1p41242.bz2`
        yield Chunk(name, (), problems=(Problem({}, "unknown_format", "known are .xml and .xml.gz .bz2 .xz .zst"),))
        return
    dump = Dump(max_bytes)
    pages: list[Page] = []
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    n_chars = 0
    try:
        for page in dump.pages(unpacked(file, compression)):
            reason = _left_out(page, dump.site)
            counts.update({reason: 1} if reason else {})
            counts.update({"wikipedia_older_revisions": page.n_revisions - 1} if page.n_revisions > 1 else {})
            pages += [] if reason else [page]
            n_chars += 0 if reason else len(page.text)
            if n_chars >= CHUNK_BYTES or len(pages) >= CHUNK_PAGES:
                yield Chunk(name, pages, _wiki(dump.site), (), counts)
                pages, counts, n_chars = [], Counter(), 0
    except XmlError as error:
        problems.append(Problem({}, "unreadable", str(error)))
    except BROKEN as error:
        problems.append(broken(error))
    yield Chunk(name, pages, _wiki(dump.site), problems, counts)


def _left_out(page: Page, site: Site) -> str:
    """Why a page is no article; empty if it is one."""
    prefix, colon, _ = page.title.partition(":")
    is_named = bool(colon) and any(prefix == name for key, name in site.namespaces.items() if key)
    if page.namespace > 0 or page.namespace < -1 or (page.namespace == -1 and is_named):
        return "wikipedia_other_namespaces"
    if page.is_redirect or page.text[:64].lstrip()[:9].upper() == "#REDIRECT":
        return "wikipedia_redirects"
    return "" if page.model == "wikitext" else "wikipedia_other_models"


def _wiki(site: Site) -> Wiki:
    names = {site.namespaces.get(key, "").lower() for key in HIDDEN_NAMESPACES} - {""}
    return Wiki(site.base.rpartition("/")[0], FILE_NAMES | names)


def documents(params: Wikipedia, chunk: Chunk) -> Batch:
    """The articles of a chunk."""
    made = [_document(params, chunk, page) for page in chunk.pages]
    docs = [document for document in made if isinstance(document, Document)]
    return Batch(docs, [document for document in made if isinstance(document, Reject)], {}, 0)


def _document(params: Wikipedia, chunk: Chunk, page: Page) -> Document | Reject:
    source, wiki = f"wikipedia/{params.name}", chunk.shared
    where = {"page": page.id, "revision": page.revision}
    if page.is_too_large or len(page.text.encode("utf-8", "surrogatepass")) > params.max_member_bytes:
        detail = f"{page.title}: more than max_member_bytes = {params.max_member_bytes}"
        return reject(source, chunk.file, where, "too_large", detail)
    try:
        text = plain(page.text, wiki.hidden)
    except WikitextError as error:
        return reject(source, chunk.file, where, "bad_wikitext", f"{page.title}: {error}")
    url = f"{wiki.base}/{quote(page.title.replace(' ', '_'), safe=':/,()!*@;~')}" if wiki.base else ""
    return finished(source, chunk, where, text, page.title, url, params.licence)
