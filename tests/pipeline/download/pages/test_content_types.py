"""Test the types and charsets of responses, as servers spell them."""

from __future__ import annotations

import pytest

from pipeline.download.pages.content_types import is_binary, is_xhtml, parse_charset, parse_essence, sniff_essence

PAGE = b"<!DOCTYPE html><html><head><title>x</title></head><body>y</body></html>"


@pytest.mark.parametrize(
    ("header", "essence", "charset"),
    [
        ("Text/HTML ; Charset = UTF-8", "text/html", "utf-8"),
        ("text/html;;charset=utf-8; x=y", "text/html", "utf-8"),
        ("text/html charset=utf-8", "text/html", "utf-8"),
        ("text/html, text/html; charset=utf-8", "text/html", "utf-8"),
        ("text/html;charset=a,text/html;charset='b'", "text/html", "b"),
        ("text/html,charset=utf-8", "text/html", "utf-8"),
        ('"text/html; charset=utf-8"', "text/html", "utf-8"),
        ("html", "text/html", ""),
        (r"text/html\; charset=utf-8", "text/html", "utf-8"),
        ("text/html; charset:utf-8", "text/html", "utf-8"),
        ("text/html;", "text/html", ""),
        ("*/*, text/plain", "text/plain", ""),
        ("image/png, */*", "image/png", ""),
        ('text/plain; x="a, text/html"', "text/plain", ""),
        ("application/xhtml+xml; profile=x", "application/xhtml+xml", ""),
        ("*/*", "", ""),
        ("", "", ""),
        ("text", "", ""),
        ("text/", "", ""),
        (";charset=koi8-r", "", "koi8-r"),
    ],
)
def test_types_are_read_as_they_are_spelled(header: str, essence: str, charset: str) -> None:
    assert (parse_essence(header), parse_charset(header)) == (essence, charset)


@pytest.mark.parametrize(
    ("start", "essence"),
    [
        (PAGE, "text/html"),
        (b"\xef\xbb\xbf\r\n\t <HTML lang=x>", "text/html"),
        (b"<p>A paragraph", "text/html"),
        (b"<!-- saved from a browser -->", "text/html"),
        (b"Warning: a message of the server<br><html>", "text/html"),
        (b"<?xml version='1.0'?>\n<!-- x --><html xmlns='http://www.w3.org/1999/xhtml'>", "text/html"),
        (b"<pre-release>", ""),
        (b"<?xml version='1.0'?><rss>", ""),
        (b"%PDF-1.7", ""),
        (b"{}", ""),
        (b"", ""),
    ],
)
def test_the_first_bytes_decide_where_no_type_is_declared(start: bytes, essence: str) -> None:
    assert sniff_essence("", start) == sniff_essence("application/unknown", start) == essence


def test_xml_is_a_page_where_its_root_is_html() -> None:
    xhtml = (
        b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' 'x.dtd'>\n<html lang='en'>"
    )
    assert sniff_essence("text/xml", xhtml) == sniff_essence("application/xml", xhtml) == "application/xhtml+xml"
    assert sniff_essence("application/rss+xml", b"<?xml version='1.0'?><rss><title>html") == "application/rss+xml"
    assert sniff_essence("image/svg+xml", b"<svg><html>") == "image/svg+xml"
    assert not is_xhtml(b"<!--" * 50_000)


@pytest.mark.parametrize("essence", ["text/plain", "application/json", "application/octet-stream", "text/css"])
def test_a_declared_type_is_believed(essence: str) -> None:
    assert sniff_essence(essence, PAGE) == essence


def test_binary_bytes_are_recognized() -> None:
    assert is_binary(b"PK\x03\x04\x14\0")
    assert is_binary(b"\x89PNG\r\n\x1a\n")
    assert not is_binary("déjà vu\t\x0c\x1b[1m\r\n".encode("latin-1"))
