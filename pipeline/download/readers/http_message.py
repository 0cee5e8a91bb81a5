"""Split an archived HTTP response into its head and its body without transfer and content codings.

In: the bytes of the message. Out: status, headers and body. Tolerant, as browsers are: a body that is declared chunked or
compressed and is not stays unchanged (crawlers decode bodies and keep the headers); what follows an invalid chunk is kept as
it is; bytes after the last gzip member are ignored.
Covers (hostile input): bodies that decode to more than `max_bytes` (`BodyError`), heads of more than `MAX_HEAD_BYTES`.
Memory: the body, and at most 8 MB more than `max_bytes` while it is decoded. Time: O(n).

Heads and chunks are parsed here because the available libraries lose text: FastWARC 2.0's `HeaderMap` reads a head with bare
line feeds to the end of the body, Resiliparse 2.0's `read_http_chunk` drops what follows an invalid chunk header and the two
bytes after a chunk of the wrong length. httpx's decoders have no limit: 758 bytes of Brotli made it allocate 1.5 GB.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from fastwarc.stream_io import BrotliReader, ZstdReader  # pyright: ignore[reportMissingModuleSource]

MAX_HEAD_BYTES = 65_536
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 8_192  # of compressed bytes: at most 8 MB of zeros
CHUNK_HEADER = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
LINE_END = re.compile(rb"\r?\n")
TRAILERS = re.compile(rb"(?:[\w-]+:[^\n]*\n)*\r?\n?\Z")


class BodyError(Exception):
    """Raised when a body cannot be decoded; `args` are the reason that is counted and the detail."""


class Head(NamedTuple):
    """Status and headers of a response (names in lower case, the first of repeated ones); the body begins at `n_bytes`."""

    status: int
    headers: Mapping[str, str]
    n_bytes: int

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        return parse_charset(self.headers.get("content-type", ""))


def parse_charset(content_type: str) -> str:
    """Return the charset that a content type declares, or an empty string."""
    _, found, rest = content_type.lower().partition("charset=")
    return rest.partition(";")[0].strip(" \"'") if found else ""


def parse_head(message: bytes) -> Head | None:
    """Return the head of a response, or None if the bytes do not begin with one."""
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


def decode_body(body: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """Return the body as a browser would decode it. Raise `BodyError` if it cannot be decoded."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = join_chunks(body)
    for coding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _decode(body, coding.strip(), max_bytes) if body else body
    return body


def join_chunks(body: bytes) -> bytes:
    """Return the data of all chunks, and unchanged what follows an invalid one; the last chunk may be truncated.

    A text whose first line could be a size (`2024`) is not chunked if no line end follows at that distance.
    """
    parts: list[bytes] = []
    at = 0
    while header := CHUNK_HEADER.match(body, at):
        start, size = header.end(), int(header[1], 16)
        if size == 0 and (parts or TRAILERS.match(body, start)):
            return b"".join(parts)
        is_clipped = start + size >= len(body) and (parts or header[0].endswith(b"\r\n"))
        end = LINE_END.match(body, start + size)
        if size == 0 or not (end or is_clipped):
            break
        parts.append(body[start : start + size])
        at = end.end() if end else len(body)
    return b"".join((*parts, body[at:]))


def _decode(body: bytes, coding: str, max_bytes: int) -> bytes:
    try:
        match coding:
            case "gzip" | "x-gzip" if body.startswith(GZIP_MAGIC):
                decoded = _inflate(body, 31, max_bytes)
            case "deflate":
                decoded = _inflate(body, 15 if body[:1] == b"\x78" else -15, max_bytes)
            case "zstd" if body.startswith(ZSTD_MAGIC):
                decoded = ZstdReader(io.BytesIO(body)).read(max_bytes + 1)
            case "br":
                decoded = BrotliReader(io.BytesIO(body)).read(max_bytes + 1)
            case _:  # an unknown coding, such as `utf-8` or `aws-chunked`, or an already decoded body
                return body
    except (zlib.error, EOFError, OSError) as error:
        if coding in ("br", "deflate") and body[:512].lstrip()[:1] == b"<":  # already decoded
            return body
        raise BodyError("bad_encoding", f"{coding}: {error}") from error
    if len(decoded) > max_bytes:
        raise BodyError("too_large", f"decodes to more than max_member_bytes = {max_bytes}")
    return decoded


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    """Inflate all gzip members or one zlib stream. FastWARC's reader would accept a truncated body as complete."""
    stream, inflated, at = zlib.decompressobj(window), bytearray(), 0
    while len(inflated) <= max_bytes:
        if stream.eof:
            at -= len(stream.unused_data)
            if window != 31 or not body.startswith(GZIP_MAGIC, at):
                break
            stream = zlib.decompressobj(window)
        if at == len(body):
            raise EOFError("the compressed body ends too early")
        inflated += stream.decompress(body[at : at + BLOCK_BYTES])
        at = min(at + BLOCK_BYTES, len(body))
    return bytes(inflated)
