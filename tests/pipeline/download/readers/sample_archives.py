"""Build web archives by hand, record by record, valid and broken."""

from __future__ import annotations

import bz2
import gzip
import lzma

import lz4.frame
import zstandard

PROSE = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 3
HTML = f"<!DOCTYPE html><html><head><title>Fox %d</title></head><body><h1>Fox</h1><p>%d {PROSE}</p></body></html>"
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
PACKED = {".gz": gzip.compress, ".zst": zstandard.compress, ".lz4": lz4.frame.compress, "": bytes}
PACKED_WHOLE = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def make_record(number: int, block: bytes, kind: str = "response", **fields: str) -> bytes:
    """Return a record of WARC 1.0; `fields` replace or extend its head, with `_` for `-`."""
    head = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number}>",
        "WARC-Target-URI": f"http://a.example/{number}",
        "Content-Type": "application/http; msgtype=response" if kind == "response" else "text/plain",
        "Content-Length": str(len(block)),
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return b"WARC/1.0\r\n" + lines.encode() + b"\r\n" + block + b"\r\n\r\n"


def make_page(number: int, head: bytes = HTTP) -> bytes:
    return head + (HTML % (number, number)).encode()


def make_records(n: int = 5) -> list[bytes]:
    """Return an info record, then `n` responses, each with its request."""
    pairs = [
        (make_record(i, make_page(i)), make_record(100 + i, b"GET / HTTP/1.1\r\n\r\n", "request")) for i in range(n)
    ]
    return [make_record(99, b"software: x\r\n", "warcinfo"), *(record for pair in pairs for record in pair)]
