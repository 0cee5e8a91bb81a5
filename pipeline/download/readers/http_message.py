"""Split an archived HTTP response into its head and its body without transfer and content codings.

In: the bytes of the message. Out: status, headers and body. Tolerant, as browsers are: a body that is declared chunked or
compressed and is not stays unchanged (crawlers decode bodies and keep the headers); what follows an invalid chunk is kept as
it is; all gzip members and zstd frames are joined, and bytes after the last one are ignored; a body that begins like gzip is gzip,
whatever is declared (servers compress twice, crawlers drop the header).
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

import zstandard
from fastwarc.stream_io import BrotliReader  # pyright: ignore[reportMissingModuleSource]

from pipeline.download.pages.charsets import find_wide_encoding
from pipeline.download.pages.content_types import is_binary, parse_charset, parse_essence

MAX_HEAD_BYTES = 65_536
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGICS = (
    b"\x28\xb5\x2f\xfd",
    *(bytes((kind, 0x2A, 0x4D, 0x18)) for kind in range(0x50, 0x60)),
)  # and skippable frames
MAX_WINDOW_BYTES = 1 << 27  # zstd's own default limit; browsers allow 8 MB
BLOCK_BYTES = 8_192  # of compressed bytes: at most 8 MB of zeros
SNIFFED_BYTES = 512
ZSTD_BLOCK_BYTES = 256  # four bytes can stand for 128 KB
CHUNK_HEADER = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
LINE_END = re.compile(rb"\r?\n")
TRAILERS = re.compile(rb"(?:[\w-]+:[^\n]*\n)*\r?\n?\Z")
WORD = re.compile(rb"[0-9]+|[A-Fa-f]{3,}")  # a size that could be the first line of a text: `1848`, `Add`
INTERIM = re.compile(rb"(?:HTTP/[\d.]+ 1\d\d\b(?:[^\r\n]{0,1000}\r?\n){1,50}?\r?\n)+(?=HTTP/)")
HEAD_LINE = re.compile(r"\r?\n(?![ \t])")  # a line that begins with a space continues the one before
LISTS = ("content-type", "content-encoding", "transfer-encoding")  # headers whose repetitions make one list


class BodyError(Exception):
    """Raised when a body cannot be decoded; `args` are the reason that is counted and the detail."""


class Head(NamedTuple):
    """Status and headers of a response (names in lower case; of repeated ones the first, or the list for `LISTS`); the body begins
    at `n_bytes`."""

    status: int
    headers: Mapping[str, str]
    n_bytes: int

    @property
    def content_type(self) -> str:
        return parse_essence(self.headers.get("content-type", ""))

    @property
    def charset(self) -> str:
        return parse_charset(self.headers.get("content-type", ""))


def parse_head(message: bytes) -> Head | None:
    """Return the head of a response, or None if the bytes do not begin with one; interim responses (`100 Continue`) are skipped."""
    skipped = INTERIM.match(message)
    if skipped:
        head = parse_head(message[skipped.end() :])
        return head and head._replace(n_bytes=head.n_bytes + skipped.end())
    if not message.startswith(b"HTTP/"):
        return None
    at, size = message.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES), 4
    bare = message.find(b"\n\n", 0, at if at >= 0 else MAX_HEAD_BYTES)
    if bare >= 0:
        at, size = bare, 2
    elif at < 0:
        at, size = min(len(message), MAX_HEAD_BYTES), 0
    first, *lines = HEAD_LINE.split(message[:at].decode("latin-1"))
    words = first.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdecimal() and len(words[1]) == 3 else 0
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), " ".join(value.split())
        headers[name] = f"{headers[name]}, {value}" if name in LISTS and name in headers else headers.get(name, value)
    return Head(status, headers, at + size)


def decode_body(body: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """Return the body as a browser would decode it. Raise `BodyError` if it cannot be decoded."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = join_chunks(body)
    codings = [
        coding.partition(";")[0].strip(" \t\"'") for coding in headers.get("content-encoding", "").lower().split(",")
    ]
    for coding in reversed(codings):
        body = _decode(body, coding, max_bytes) if body else body
    return _decode(body, "gzip", max_bytes) if body.startswith(GZIP_MAGIC + b"\x08") else body


def join_chunks(body: bytes) -> bytes:
    """Return the data of all chunks, and unchanged what follows an invalid one; the last chunk may be truncated.

    A text whose first line could be a size (`2024`) is not chunked: if no line end follows at that distance; if line ends are bare
    line feeds and no last chunk follows; if the only chunk is truncated, its size is a plain number or word, and no markup follows.
    """
    parts: list[bytes] = []
    at, is_bare = 0, False
    while header := CHUNK_HEADER.match(body, at):
        start, size = header.end(), int(header[1], 16)
        is_bare = is_bare or not header[0].endswith(b"\r\n")
        if size == 0 and (parts or TRAILERS.match(body, start)):
            return b"".join(parts)
        is_clipped = start + size >= len(body) and (parts or not _is_first_line(header, body))
        end = LINE_END.match(body, start + size)
        if size == 0 or not (end or is_clipped):
            break
        parts.append(body[start : start + size])
        at = end.end() if end else len(body)
    return body if is_bare else b"".join((*parts, body[at:]))


def _is_first_line(header: re.Match[bytes], body: bytes) -> bool:
    """Return whether a chunk header that is longer than the body may be the first line of a text."""
    is_plain = WORD.fullmatch(header[1]) and body[header.end() : header.end() + 1] != b"<"
    return bool(is_plain) or not header[0].endswith(b"\r\n")


def _decode(body: bytes, coding: str, max_bytes: int) -> bytes:
    try:
        match coding:
            case "gzip" | "x-gzip" | "deflate" if body.startswith(GZIP_MAGIC):
                decoded = _inflate(body, 31, max_bytes)
            case "deflate" | "x-deflate":
                decoded = _inflate_deflate(body, max_bytes)
            case "zstd" if body.startswith(ZSTD_MAGICS):
                decoded = _unzstd(body, max_bytes)
            case "br":
                decoded = BrotliReader(io.BytesIO(body)).read(max_bytes + 1)
            case "gzip" | "x-gzip" | "zstd" if not _is_text(body):
                raise OSError("the body does not begin as it does")
            case _:  # an unknown coding, such as `utf-8` or `aws-chunked`, or an already decoded body
                return body
    except (zlib.error, zstandard.ZstdError, EOFError, OSError) as error:
        if coding in ("br", "deflate", "x-deflate") and _is_text(body):  # already decoded
            return body
        raise BodyError("bad_encoding", f"{coding}: {error}") from error
    if len(decoded) > max_bytes:
        raise BodyError("too_large", f"decodes to more than max_member_bytes = {max_bytes}")
    return decoded


def _is_text(body: bytes) -> bool:
    return not is_binary(body[:SNIFFED_BYTES]) or bool(find_wide_encoding(body))


def _inflate_deflate(body: bytes, max_bytes: int) -> bytes:
    """Inflate a zlib stream, or the raw one that some servers send instead; the first two bytes are evidence, not proof."""
    is_zlib = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0
    try:
        return _inflate(body, 15 if is_zlib else -15, max_bytes)
    except zlib.error:
        if not is_zlib:
            raise
        return _inflate(body, -15, max_bytes)


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    """Inflate all gzip members or one zlib stream. FastWARC's reader would accept a truncated body as complete."""
    stream, inflated, at = zlib.decompressobj(window), bytearray(), 0
    while len(inflated) <= max_bytes:
        if stream.eof:
            at -= len(stream.unused_data)
            if window != 31 or not body.startswith(GZIP_MAGIC + b"\x08", at):
                break
            stream = zlib.decompressobj(window)
        if at == len(body):
            raise EOFError("the compressed body ends too early")
        inflated += stream.decompress(body[at : at + BLOCK_BYTES])
        at = min(at + BLOCK_BYTES, len(body))
    return bytes(inflated)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    """Decompress all zstd frames; skippable ones give nothing."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    inflated, at = bytearray(), 0
    while body.startswith(ZSTD_MAGICS, at):
        stream, start = decompressor.decompressobj(), at
        while not stream.eof:
            if len(inflated) > max_bytes:
                return bytes(inflated)
            if at == len(body):
                raise EOFError("the compressed body ends too early")
            inflated += stream.decompress(body[at : at + ZSTD_BLOCK_BYTES])
            at = min(at + ZSTD_BLOCK_BYTES, len(body))
        at = max(at - len(stream.unused_data), start + 1)
    return bytes(inflated)
