"""Find out as browsers do whether a response is HTML, plain text or neither.

In: a Content-Type header as it was sent, and the first bytes of the body. Out: an essence such as `text/html`, and a charset. The
rules are those of WHATWG's MIME Sniffing and Fetch standards: of several values in one header the last valid one counts; a value
that is no type, or `*/*`, or missing, leaves the decision to the first bytes; a declared `text/plain` stays plain text, unless it
is binary; XML is a page where its root is `<html>`. More tolerant than they are: a charset is read from an invalid value as well,
and an invalid value that contains the name of HTML is HTML.
"""

from __future__ import annotations

import re

HTML, XHTML, PLAIN = "text/html", "application/xhtml+xml", "text/plain"
HTML_TYPES = (HTML, XHTML, "application/vnd.wap.xhtml+xml")
NO_TYPES = ("", "*/*", "unknown/unknown", "application/unknown")
SNIFFED_BYTES = 1_445  # WHATWG's resource header
SCANNED_BYTES = 65_536  # for the first tag after comments and the prologue of XML

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
TYPE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*(?:;.*)?", re.DOTALL)
VALUES = re.compile(r'(?:"(?:[^"\\]|\\.)*"?|[^",])+')  # a comma within quotes separates nothing
CHARSET = re.compile(r"""charset\s*[=:]\s*["']?([^\s"',;\\]+)""", re.IGNORECASE)
NAMED_HTML = re.compile(r"\bx?html\b", re.IGNORECASE)

TAGS = b"html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta|link|center"
OPENING = re.compile(rb"<!doctype\s+html[\s>]|<(?:%s)[\s>]|<!--" % TAGS, re.IGNORECASE)
LATER = re.compile(rb"<!doctype html|<html", re.IGNORECASE)  # after a message of the server, for example
PROLOGUE = re.compile(
    rb"(?:\s+|<\?[^>]{0,2000}>|<!--.{0,8000}?-->|<!doctype\s[^>\[]{0,1000}>)*", re.IGNORECASE | re.DOTALL
)
ROOT = re.compile(rb"<(?:\w{1,40}:)?html[\s>]", re.IGNORECASE)
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def parse_charset(content_type: str) -> str:
    """Return the charset that a content type declares, in lower case; the last one of several; empty if it declares none."""
    charsets = CHARSET.findall(content_type)
    return charsets[-1].lower() if charsets else ""


def parse_essence(content_type: str) -> str:
    """Return the type without parameters, in lower case; empty if the header has no valid one."""
    essence = ""
    for value in VALUES.findall(content_type):
        match = TYPE.fullmatch(value)
        if match and match[1] != "*/*":
            essence = match[1].lower()
    if not essence and NAMED_HTML.search(content_type):
        return HTML
    return essence


def sniff_essence(essence: str, start: bytes) -> str:
    """Return the type of a body that begins with these bytes, without codings and in UTF-8, and is declared as `essence`."""
    if essence in NO_TYPES:
        begins = OPENING.match(start.removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\x0c\r "))
        return HTML if begins or LATER.search(start[:SNIFFED_BYTES]) or is_xhtml(start) else ""
    if essence in ("text/xml", "application/xml") or (essence.endswith("+xml") and essence not in HTML_TYPES):
        return XHTML if is_xhtml(start) else essence
    return essence


def is_xhtml(start: bytes) -> bool:
    """Return whether the root of the XML that begins with these bytes is `<html>`."""
    prologue = PROLOGUE.match(start.removeprefix(b"\xef\xbb\xbf"))
    return bool(prologue and ROOT.match(prologue.string, prologue.end()))


def is_binary(start: bytes) -> bool:
    """Return whether a body that is declared as plain text begins with bytes that no text has."""
    return bool(BINARY.search(start[:SNIFFED_BYTES]))
