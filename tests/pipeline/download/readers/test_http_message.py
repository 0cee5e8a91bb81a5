"""Test decoding bodies as a browser would, whatever the headers declare."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.readers.http_message import BodyError, decode_body, join_chunks, parse_head

MAX_BYTES = 100_000


def compress_raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


COMPRESS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "br": brotli.compress,
}


def test_a_head_is_parsed() -> None:
    message = (
        b'HTTP/1.1 200 OK\r\nContent-Type: Text/HTML; Charset="Latin-1"\r\nX: 1\r\nx: 2\r\nbroken\r\n\r\nbody\n\nmore'
    )
    head = parse_head(message)
    assert head is not None
    assert (head.status, head.content_type, head.charset, head.headers["x"]) == (200, "text/html", "latin-1", "1")
    assert message[head.n_bytes :] == b"body\n\nmore"


def test_bare_line_feeds_a_missing_status_and_a_missing_head() -> None:
    bare = parse_head(b"HTTP/1.0 404 Not Found\nA: b\n\nbody\r\n\r\n")
    assert bare is not None
    assert (bare.status, bare.n_bytes) == (404, 29)
    for message, status in ((b"HTTP/1.1", 0), (b"HTTP/1.1 abc\r\n\r\n", 0), (b"HTTP/1.1 200", 200)):
        head = parse_head(message)
        assert head is not None
        assert head.status == status
    assert parse_head(b"<html>") is None
    assert parse_head(b"") is None


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1), st.sampled_from([b"", b";name=value"]))
def test_chunks_are_joined(body: bytes, sizes: list[int], extension: bytes) -> None:
    chunks, at, number = b"", 0, 0
    while at < len(body):
        part = body[at : at + sizes[number % len(sizes)]]
        chunks += b"%x%s\r\n%s\r\n" % (len(part), extension, part)
        at, number = at + len(part), number + 1
    assert join_chunks(chunks + b"0\r\nTrailer: x\r\n\r\n") == body


@given(st.binary(max_size=200))
def test_any_bytes_can_be_joined(body: bytes) -> None:
    assert len(join_chunks(body)) <= len(body)


def test_invalid_chunks_are_kept_unchanged() -> None:
    assert join_chunks(b"<html>not chunked") == b"<html>not chunked"
    assert join_chunks(b"3\r\nabc\r\nzz\r\nrest") == b"abczz\r\nrest"
    assert join_chunks(b"ff\r\nshort") == b"short"
    assert join_chunks(b"3\r\nabc\r\nff\r\nshort") == b"abcshort"
    assert join_chunks(b"3\nabc\n2\nde\n0\n\n") == b"abcde"
    assert join_chunks(b"3\r\nabc\r\n3\r\ndefgh\r\n0\r\n\r\n") == b"abc3\r\ndefgh\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        *(b"2024\nwas a year", b"Add\none\n", b"0\nis a number", b"3\r\nlines\r\n", b"0\r\n\r\nx"),
        *(b"1848\r\n\r\nA diary of CRLF lines\r\n", b"Decade\r\nby decade", b"A\n0123456789\nand a third line"),
    ],
)
def test_a_text_that_begins_like_a_chunk_keeps_its_first_line(body: bytes) -> None:
    assert join_chunks(body) == body


@pytest.mark.parametrize("encoding", COMPRESS)
@given(st.binary(max_size=2_000))
def test_compressed_bodies_are_decoded(encoding: str, body: bytes) -> None:
    compressed = COMPRESS[encoding](body)
    assert decode_body(compressed, {"content-encoding": encoding.upper()}, MAX_BYTES) == body
    twice = {"content-encoding": f"{encoding}, gzip", "transfer-encoding": "chunked"}
    chunk = gzip.compress(compressed)
    assert decode_body(b"%x\r\n%s\r\n0\r\n\r\n" % (len(chunk), chunk), twice, MAX_BYTES) == body


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@given(st.lists(st.binary(max_size=20_000), min_size=1, max_size=5))
def test_several_members_are_joined(encoding: str, bodies: list[bytes]) -> None:
    compressed = b"".join(map(COMPRESS[encoding], bodies))
    assert decode_body(compressed, {"content-encoding": encoding}, MAX_BYTES) == b"".join(bodies)


def test_a_truncated_first_chunk_of_markup_or_of_a_mixed_size_loses_its_header() -> None:
    assert join_chunks(b"2000\r\n<html>") == b"<html>"
    assert join_chunks(b"1f40\r\ntext") == b"text"


@pytest.mark.parametrize("junk", [b"junk", bytes(9), b"\x1f\x8b\0\0\0\0\0\0junk", b"\r\n\r\n"])
@pytest.mark.parametrize("encoding", COMPRESS)
def test_bytes_after_the_last_member_are_ignored(encoding: str, junk: bytes) -> None:
    assert decode_body(COMPRESS[encoding](b"abc") + junk, {"content-encoding": encoding}, MAX_BYTES) == b"abc"


def test_an_empty_first_member_and_skippable_frames_give_nothing() -> None:
    skipped = bytes((0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0)) + b"abc"
    zstd = b"".join(
        (skipped, zstandard.compress(b""), zstandard.compress(b"one "), skipped, zstandard.compress(b"two"))
    )
    assert decode_body(zstd, {"content-encoding": "zstd"}, MAX_BYTES) == b"one two"
    assert decode_body(gzip.compress(b"") + gzip.compress(b"x"), {"content-encoding": "gzip"}, MAX_BYTES) == b"x"


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "identity", '"gzip";q=1', "x-gzip, "])
def test_gzip_is_recognized_whatever_is_declared(encoding: str) -> None:
    twice = gzip.compress(gzip.compress(b"<html>twice"))  # by the server and by its proxy
    assert decode_body(twice, {"content-encoding": "gzip"}, MAX_BYTES) == b"<html>twice"
    assert decode_body(gzip.compress(b"<html>once"), {"content-encoding": encoding}, MAX_BYTES) == b"<html>once"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_another_coding_than_the_declared_one_is_an_error(encoding: str) -> None:
    with pytest.raises(BodyError):
        decode_body(brotli.compress(b"<html>" + bytes(range(256))), {"content-encoding": encoding}, MAX_BYTES)


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_decoded_text_keeps_its_bytes_whatever_is_declared(encoding: str) -> None:
    for body in (b"Plain words without markup.\n", "<p>in sixteen bits</p>".encode("utf-16-le")):
        assert decode_body(body, {"content-encoding": encoding}, MAX_BYTES) == body


def test_a_zlib_stream_with_a_small_window_is_decoded() -> None:
    stream = zlib.compressobj(wbits=9)
    compressed = stream.compress(b"abc" * 100) + stream.flush()
    assert decode_body(compressed, {"content-encoding": "deflate"}, MAX_BYTES) == b"abc" * 100


def test_interim_responses_are_skipped() -> None:
    message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\nLink: x\n\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"
    head = parse_head(message)
    assert head is not None
    assert (head.status, head.headers, message[head.n_bytes :]) == (200, {"a": "b"}, b"body")
    alone = parse_head(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert alone is not None
    assert alone.status == 100


def test_folded_and_repeated_headers_are_joined() -> None:
    message = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html;\r\n\tcharset=x\r\nCONTENT-TYPE: text/html\r\nA: \x85b\r\n\r\nbody"
    )
    head = parse_head(message)
    assert head is not None
    assert (head.content_type, head.charset, message[head.n_bytes :]) == ("text/html", "x", b"body")
    assert head.headers["content-type"] == "text/html; charset=x, text/html"


@pytest.mark.timeout(20)
def test_many_small_members_take_linear_time() -> None:
    assert decode_body(gzip.compress(b"a") * 90_000, {"content-encoding": "gzip"}, MAX_BYTES) == b"a" * 90_000


def test_raw_deflate_is_decoded() -> None:
    assert decode_body(compress_raw_deflate(b"abc" * 100), {"content-encoding": "deflate"}, MAX_BYTES) == b"abc" * 100


@pytest.mark.parametrize(
    "encoding", [*COMPRESS, "identity", "", "unknown", "utf-8", "aws-chunked", "gzip,,", "aws-chunked, gzip"]
)
def test_an_already_decoded_body_is_unchanged(encoding: str) -> None:
    assert decode_body(b"<html>x</html>", {"content-encoding": encoding}, MAX_BYTES) == b"<html>x</html>"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_decompression_bomb_is_refused(encoding: str) -> None:
    with pytest.raises(BodyError) as error:
        decode_body(COMPRESS[encoding](bytes(50_000_000)), {"content-encoding": encoding}, MAX_BYTES)
    assert error.value.args[0] == "too_large"


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_truncated_body_is_an_error(encoding: str) -> None:
    body = bytes(range(256)) * 20
    with pytest.raises(BodyError) as error:
        decode_body(COMPRESS[encoding](body)[:-40], {"content-encoding": encoding}, MAX_BYTES)
    assert error.value.args[0] == "bad_encoding"
