"""A web archive to documents: the reader `warc` against warcio and resiliparse, on one core.

The archive is made here in the form of Common Crawl's: a request, a response and a metadata record for each page, each
compressed separately; pages of 10 to 90 kB with scripts, styles, navigation, sidebars, comments and footers around an article.
`--archive FILE` reads a real one instead. Both return text, title and URL of each page; ours also detects the page's license,
checks its shape, tells main text by a classifier (main_text.py measures how well) and makes the locator. No page and at most one
line in a hundred of the peer's is missing in ours.
"""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from benchmarks.measure import Result, Work, compare
from benchmarks.text.generated import make_random_words
from pipeline.download.params import Warc
from pipeline.download.readers.warc import open_source

Page = tuple[str, str, str]  # URL, title, text


def run(*, n_pages: int = 150, archive: Path | None = None) -> Result:
    """Return megabytes of HTML per second. Raises: `UserError` if ours lacks pages or lines (pages made here only)."""
    with tempfile.TemporaryDirectory() as folder:
        path = archive or Path(folder, "pages.warc.gz")
        if archive is None:
            path.write_bytes(make_archive(n_pages))
        params = Warc(kind="warc", name="bench", path=str(path))
        pages, n_bytes = read_with_peer(path)

        def ours() -> list[Page]:
            batches = open_source(params, "bench").batches
            return [(document.url, document.title, document.text) for batch in batches for document in batch.docs]

        def peer() -> list[Page]:
            return read_with_peer(path)[0]

        def is_same(mine: list[Page], theirs: list[Page]) -> bool:
            return archive is not None or is_as_complete(mine, theirs)

        work = f"{len(pages)} pages, {n_bytes / 1e6:.1f} MB of HTML, {path.name}"
        return compare(Work(work, "MB/s", n_bytes / 1e6, "warcio + resiliparse"), ours, peer, is_same=is_same, rounds=5)


def is_as_complete(ours: list[Page], peer: list[Page]) -> bool:
    """Return whether ours has the same pages and 99 of 100 lines of the peer's."""
    if [(url, title) for url, title, _ in ours] != [(url, " ".join(title.split())) for url, title, _ in peer]:
        return False
    lines = [
        (set(other.splitlines()), {"", *text.splitlines()})
        for (_, _, text), (_, _, other) in zip(ours, peer, strict=True)
    ]
    return 100 * sum(len(theirs - mine) for theirs, mine in lines) <= sum(len(theirs) for theirs, _ in lines)


def read_with_peer(path: Path) -> tuple[list[Page], int]:
    """Return the pages, read as the libraries' documentation shows, and the bytes of HTML."""
    found: list[Page] = []
    n_bytes = 0
    with path.open("rb") as file:
        for record in ArchiveIterator(file):
            headers = record.http_headers
            if record.rec_type != "response" or headers is None or headers.get_statuscode() != "200":
                continue
            if "text/html" not in (headers.get_header("Content-Type") or ""):
                continue
            body = record.content_stream().read()
            tree = HTMLTree.parse(bytes_to_str(body, detect_encoding(body) or "utf-8"))
            text = extract_plain_text(tree, main_content=True, alt_texts=False)
            found.append((record.rec_headers.get_header("WARC-Target-URI"), tree.title or "", text))
            n_bytes += len(body)
    return found, n_bytes


def make_archive(n_pages: int) -> bytes:
    """Return an archive of `n_pages` pages with their requests and metadata; beside every tenth are a picture and an error."""
    rng = random.Random(1)
    words = make_random_words(rng, 8_000, max_chars=11)
    out = io.BytesIO()
    writer: Any = WARCWriter(out, gzip=True)
    fields = {"WARC-IP-Address": "192.0.2.1", "WARC-Identified-Payload-Type": "text/html"}

    def write(kind: str, url: str, body: bytes, head: Any = None) -> None:
        size, payload = len(body), io.BytesIO(body)
        record = writer.create_warc_record(url, kind, payload, size, http_headers=head, warc_headers_dict=fields)
        writer.write_record(record)

    for number in range(n_pages):
        url = f"https://site{number % 40}.example/articles/{number}"
        request = [("Host", "site.example"), ("Accept", "*/*")]
        write("request", url, b"", StatusAndHeaders(f"GET /articles/{number} HTTP/1.1", request))
        write(
            "response",
            url,
            make_page(rng, words, number).encode(),
            make_response_head("200 OK", "text/html; charset=UTF-8"),
        )
        if number % 10 == 0:
            write("response", url + ".png", rng.randbytes(20_000), make_response_head("200 OK", "image/png"))
            write("response", url + "x", b"<h1>not found</h1>", make_response_head("404 Not Found", "text/html"))
        write("metadata", url, b"fetchTimeMs: 312\r\ncharset-detected: UTF-8\r\n")
    return out.getvalue()


def make_response_head(status: str, kind: str) -> Any:
    """Return the status line and headers of a response."""
    fields = {"Date": "Fri, 01 May 2026 10:00:00 GMT", "Server": "nginx", "Content-Type": kind, "Vary": "Accept"}
    return StatusAndHeaders(status, [*fields.items()], protocol="HTTP/1.1")


def make_page(rng: random.Random, words: list[str], number: int) -> str:
    """Return a page of the kind that content management systems make."""

    def prose(n_words: int) -> str:
        return " ".join(rng.choices(words, k=n_words)).capitalize() + "."

    def word() -> str:
        return rng.choice(words)

    def link() -> str:
        return f'<a href="/{word()}/{word()}?ref={number}" class="link link--{word()}">{prose(2)}</a>'

    def repeat(low: int, high: int, make: Callable[[int], str]) -> str:
        return "".join(make(n) for n in range(rng.randint(low, high)))

    def card(n: int) -> str:
        image = f'<img src="/i/{n}.jpg" alt="{prose(3)}" width="320" height="180" loading="lazy">'
        title = f'<h3 class="card__title">{prose(5)}</h3><span class="meta date">1 May 2026</span>'
        return f'<div class="card" data-id="{n}"><a href="/p/{n}">{image}</a>{title}</div>'

    def section(n: int) -> str:
        text = repeat(1, 5, lambda _: f"<p>{prose(rng.randint(20, 90))} {link()} <em>{prose(3)}</em></p>\n")
        items = f"<ul>{repeat(5, 5, lambda _: f'<li>{prose(8)}</li>')}</ul>" if n % 3 == 0 else ""
        table = f"<table><tr><th>{prose(1)}</th><td>{number}</td></tr></table>" if n % 4 == 0 else ""
        return f'<h2 id="s{n}">{prose(4)}</h2>{text}{items}{table}'

    menu = repeat(10, 40, lambda n: f'<li class="menu-item menu-item-{n}" id="m{n}">{link()}</li>')
    script = repeat(20, 300, lambda n: f"window.q{n}=function(a,b){{return a<b&&'{word()}'}};")
    style = repeat(20, 200, lambda n: f".{word()}{{margin:0 {n}px;color:#fff}}\n")
    comments = repeat(0, 10, lambda n: f'<div class="comment" id="c{n}"><p>{prose(25)}</p></div>')
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{prose(6)}</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="description" content="{prose(20)}">'
        f'<link rel="stylesheet" href="/a.css"><style>{style}</style><script>{script}</script></head>'
        f'<body class="post single"><!-- {prose(10)} -->'
        f'<header class="site-header"><nav class="navbar"><ul>{menu}</ul></nav></header>'
        f'<main id="main"><article class="post-content"><h1>{prose(7)}</h1>{repeat(2, 14, section)}</article>'
        f'<section class="comments">{comments}</section></main><aside class="sidebar">{repeat(4, 20, card)}</aside>'
        f'<footer class="site-footer"><ul>{menu}</ul><p>© 2026 {prose(4)}</p></footer><script>{script}</script></body></html>'
    )
