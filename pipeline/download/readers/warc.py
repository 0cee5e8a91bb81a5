"""Read the source `warc`: web archives, WARC and WET, plain or `.gz .zst .lz4 .bz2 .xz`, also those inside a WACZ.

In: archives of any size. Out: a document for each response with status 200 that is HTML (its main text and title) or plain text,
and for each text of a WET file; with the license that the page declares, else the source's. Other responses and records are
counted by kind; broken, truncated, oversized, hostile and empty ones become rejects, and reading continues. Time: O(n); pages
are extracted by the workers. Memory: two chunks per worker, one record of at most `max_member_bytes`, 7 to 60 times a page while
it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.download.pages.charsets import decode, find_wide_encoding
from pipeline.download.pages.content_types import (
    HTML_TYPES,
    NO_TYPES,
    PLAIN,
    SCANNED_BYTES,
    is_binary,
    sniff_essence,
)
from pipeline.download.pages.web_licenses import UNKNOWN
from pipeline.download.pages.web_page import PageError, read_html, read_plain
from pipeline.download.params import Warc
from pipeline.download.readers.chunks import (
    BROKEN,
    Counted,
    Item,
    Problem,
    Raw,
    describe_failure,
    make_document,
    make_reject,
    open_chunked,
)
from pipeline.download.readers.document import Document, Reading, Reject
from pipeline.download.readers.http_message import BodyError, Head, decode_body, parse_head
from pipeline.download.readers.web_archives import Record, Skipped, read_archive
from pipeline.frame.errors import UserError
from pipeline.storage.files import find_files
from pipeline.storage.streams import CountedFile, read_members, split_name

ENDINGS = (".warc", ".wet", ".wat")
WACZ = ".wacz"  # a zip with WARC files, an index and logs
ARC = re.compile(r"\.arc(\.\w+)?$", re.IGNORECASE)
WEB = ("http:", "https:", "ftp:")


class PageRecord(NamedTuple):
    """A record whose body is text, still encoded as its headers declare."""

    record: Record
    head: Head
    is_html: bool
    member: str = ""  # the file inside the WACZ


def open_source(params: Warc, setting: str) -> Reading:
    """Open the pages of all archives. Raise `UserError` if there are none, or if one is an ARC file."""
    _, files, _ = find_files(params.path, f"{setting}.path")
    if arc := next((file.name for file in files if ARC.search(file.name)), ""):
        advice = "convert it to WARC, for example with `warcio recompress FILE.arc.gz FILE.warc.gz`"
        raise UserError(f"{setting}.path names a file in the ARC format, which is not supported", arc, advice)

    return open_chunked(params, setting, _read_pages, _make_document)


def _read_pages(file: CountedFile, name: str, max_bytes: int) -> Iterator[Item]:
    if split_name(name)[0] == WACZ:
        yield from _read_members(file, max_bytes)
    elif any(ending in name.lower() for ending in ENDINGS):
        yield from _read_records(file, max_bytes)
    else:
        yield Problem({}, "unknown_format", f"known are {' '.join((*ENDINGS, WACZ))}")


def _read_members(file: CountedFile, max_bytes: int) -> Iterator[Item]:
    """Yield the pages of the WARC files inside a WACZ; an error in one does not end the others."""
    for member in read_members(file, ".zip", ""):
        if member.problem or not any(ending in member.name.lower() for ending in ENDINGS):
            continue
        where = {"member": member.name}
        try:
            with member.read() as opened:
                for item in _read_records(CountedFile(opened), max_bytes):
                    match item:
                        case Raw(page, n_bytes):
                            yield Raw(page._replace(member=member.name), n_bytes)
                        case Problem():
                            yield item._replace(where={**where, **item.where})
                        case _:
                            yield item
        except BROKEN as error:
            yield describe_failure(error)._replace(where=where)


def _read_records(file: CountedFile, max_bytes: int) -> Iterator[Item]:
    for item in read_archive(file, max_bytes):
        page = _parse_response(item, max_bytes) if isinstance(item, Record) else item
        match page:
            case PageRecord():
                yield Raw(page, len(page.record.block))
            case Skipped(kind):
                yield Counted(f"warc_{kind}")
            case Problem():
                yield page


def _parse_response(record: Record, max_bytes: int) -> PageRecord | Skipped:
    """Return the page of a record, or why it has none."""
    if record.kind == "response":
        head = parse_head(record.block)
        if head is None:
            return Skipped("skipped_no_http")
        if head.status != 200:
            return Skipped("skipped_status")
    elif record.kind == "resource" and not record.url.lower().startswith(WEB):
        return Skipped("skipped_resource")  # logs of crawlers: `metadata://…`
    else:
        head = Head(200, {"content-type": record.content_type}, 0)
    essence = head.content_type
    if essence in NO_TYPES or essence.endswith("xml"):
        essence = sniff_essence(essence, _decode_start(record, head, max_bytes))
    if essence not in HTML_TYPES and essence != PLAIN:
        return Skipped("skipped_type")
    return PageRecord(record, head, essence != PLAIN)


def _decode_start(record: Record, head: Head, max_bytes: int) -> bytes:
    """Return the first bytes of the body as UTF-8 and without codings; as archived if they cannot be decoded."""
    body = record.block[head.n_bytes :]
    try:
        body = decode_body(body, head.headers, max_bytes)
    except BodyError:
        return body[:SCANNED_BYTES]
    return decode(body[:SCANNED_BYTES], head.charset).encode() if find_wide_encoding(body) else body[:SCANNED_BYTES]


def _make_document(params: Warc, file: str, page: PageRecord) -> Document | Reject:
    source, record, head = f"warc/{params.name}", page.record, page.head
    where = {"offset": record.offset, "record": record.id, **({"member": page.member} if page.member else {})}
    try:
        body = decode_body(record.block[head.n_bytes :], head.headers, params.max_member_bytes)
        charset = head.charset
        if not page.is_html and record.kind != "conversion" and _is_binary(body, charset):
            return make_reject(
                source, file, where, "not_text", f"{record.url}: declared as text/plain, and begins with binary bytes"
            )
        text, title, license = read_html(body, charset) if page.is_html else read_plain(body, charset)
    except BodyError as error:
        return make_reject(source, file, where, error.args[0], f"{record.url}: {error.args[1]}")
    except PageError as error:
        return make_reject(source, file, where, "hostile_markup", f"{record.url}: {error}")
    url = record.url.encode("utf-8", "replace").decode()
    return make_document(source, file, where, text, title, url, params.license if license == UNKNOWN else license)


def _is_binary(body: bytes, charset: str) -> bool:
    return is_binary(body) and not find_wide_encoding(body, charset)
