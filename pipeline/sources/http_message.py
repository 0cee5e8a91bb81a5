"""An HTTP response as an archive holds it: its head, and its body without transfer and content encodings.

In: the bytes of the message. Out: status, headers and body. Tolerant, as browsers are: a body that is declared chunked or
packed and is not stays as it is (crawlers unpack bodies and keep the headers); what follows a wrong chunk is taken as it
stands.
Covered against hostile input: bodies that unpack to more than `max_bytes` (`BodyError`), heads of more than `MAX_HEAD_BYTES`.
Order n.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import zstandard
from fastwarc.stream_io import BrotliReader  # pyright: ignore[reportMissingModuleSource]

MAX_HEAD_BYTES = 65_536
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
MAX_SIZE_DIGITS = 16  # of a chunk, in hex


class BodyError(Exception):
    """The body can't be unpacked; `args` are a reason that is counted and the detail."""


class Head(NamedTuple):
    """Status line and headers (names in lower case, the first of equal ones); the body begins at `n_bytes`."""

    status: int
    headers: Mapping[str, str]
    n_bytes: int

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        return charset_of(self.headers.get("content-type", ""))


def charset_of(content_type: str) -> str:
    """The charset of a content type, as it is declared; empty if it is not."""
    _, found, rest = content_type.lower().partition("charset=")
    return rest.partition(";")[0].strip(" \"'") if found else ""


def parse_head(message: bytes) -> Head | None:
    """The head of a response; None if the bytes don't begin with one."""
    if not message.startswith(b"HTTP/"):
        return None
    at, size = message.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES), 4
    bare = message.find(b"\n\n", 0, at if at >= 0 else MAX_HEAD_BYTES)
    if bare >= 0:
        at, size = bare, 2
    elif at < 0:
        at, size = min(len(message), MAX_HEAD_BYTES), 0
    first, *lines = message[:at].decode("latin-1").splitlines() or [""]
    words = first.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdecimal() and len(words[1]) == 3 else 0
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return Head(status, headers, at + size)


def decoded_body(body: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """The body that a browser would show. Raises `BodyError`."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = unchunked(body)
    for encoding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _unpacked(body, encoding.strip(), max_bytes) if body else body
    return body


def unchunked(body: bytes) -> bytes:
    """The chunks joined; all that comes after a wrong one as it stands; a body that does not begin with one as it is."""
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        end = body.find(b"\n", at, at + 1_024)
        digits = body[at : max(end, at)].partition(b";")[0].strip()
        try:
            size = int(digits, 16) if len(digits) <= MAX_SIZE_DIGITS and digits.isalnum() else -1
        except ValueError:
            size = -1
        if size < 0:
            return b"".join((*parts, body[at:]))
        if size == 0:
            break
        parts.append(body[end + 1 : end + 1 + size])
        at = end + 1 + size
        at += 2 if body[at : at + 2] == b"\r\n" else 1 if body[at : at + 1] == b"\n" else 0
    return b"".join(parts)


def _unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    try:
        match encoding:
            case "gzip" | "x-gzip" if body.startswith(GZIP_MAGIC):
                unpacked = _inflated(body, 31, max_bytes)
            case "deflate":
                unpacked = _inflated(body, 15 if body[:1] == b"\x78" else -15, max_bytes)
            case "zstd" if body.startswith(ZSTD_MAGIC):
                unpacked = zstandard.ZstdDecompressor().stream_reader(body).read(max_bytes + 1)
            case "br":
                unpacked = BrotliReader(io.BytesIO(body)).read(max_bytes + 1)
            case _:
                return body
    except (zlib.error, zstandard.ZstdError, OSError) as error:
        if encoding in ("br", "deflate") and body[:512].lstrip()[:1] == b"<":  # unpacked already
            return body
        raise BodyError("bad_encoding", f"{encoding}: {error}") from error
    if len(unpacked) > max_bytes:
        raise BodyError("too_large", f"unpacks to more than max_member_bytes = {max_bytes}")
    return unpacked


def _inflated(body: bytes, window: int, max_bytes: int) -> bytes:
    stream = zlib.decompressobj(window)
    unpacked = stream.decompress(body, max_bytes + 1)
    if not stream.eof and len(unpacked) <= max_bytes:
        raise BodyError("bad_encoding", "the packed body ends too early")
    return unpacked
