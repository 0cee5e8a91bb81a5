"""Test reading the headers of responses, as servers spell them."""

from __future__ import annotations

import email.utils
import time

import httpx
import pytest

from pipeline.download.readers.fetched_file import RemoteFile, Validators
from pipeline.download.readers.responses import parse_codings, parse_range_start, parse_remote, parse_retry_after


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after("7") == 7.0
    assert 50 < parse_retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert parse_retry_after("Mon, 02 Nov 2020 10:00:00 GMT") == 0.0
    assert (
        parse_retry_after("soon") == parse_retry_after("") == parse_retry_after("-1") == parse_retry_after("²") == 0.0
    )
    assert parse_retry_after("Mon, 01 Jan 0001 00:00:00 -0000") == 0.0


@pytest.mark.parametrize(
    ("headers", "status", "n_bytes", "start"),
    [
        ({"Content-Length": "12"}, 200, 12, -1),
        ({"Content-Length": "12"}, 206, -1, -1),
        ({"Content-Range": "bytes 5-11/12", "Content-Length": "7"}, 206, 12, 5),
        ({"Content-Range": "bytes 5-11/*"}, 206, -1, 5),
        ({"Content-Range": "items 5-11/12"}, 206, 12, -1),
        ({"Content-Length": "²"}, 200, -1, -1),
        ({}, 200, -1, -1),
    ],
)
def test_lengths_and_ranges(headers: dict[str, str], status: int, n_bytes: int, start: int) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    response = httpx.Response(status, headers=encoded)
    assert (parse_remote(response.status_code, response.headers).n_bytes, parse_range_start(response.headers)) == (
        n_bytes,
        start,
    )


def test_codings() -> None:
    for value, codings in ((" GZip ", ["gzip"]), ("UTF-8, aws-chunked", []), ("", []), ("gzip, br", ["gzip", "br"])):
        assert parse_codings(httpx.Headers({"Content-Encoding": value})) == codings


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("1", "d", 5), ("1", "e", 5), True),  # a tag that is equal decides
        (("1", "d", 5), ("2", "d", 5), True),  # mirrors
        (("1", "d", 5), ("2", "d", 6), False),
        (("1", "d", -1), ("2", "d", 5), False),
        (("1", "", 5), ("2", "", 5), False),
        (("1", "d", 5), ("2", "", 5), False),
        (("1", "d", 5), ("", "d", 5), True),
        (("", "d", 5), ("", "e", 5), False),
        (("1", "", 5), ("", "", 5), True),
        (("", "", 5), ("", "", 6), False),
        (("", "", 5), ("", "", -1), True),
    ],
)
def test_versions_are_compared(one: tuple[str, str, int], other: tuple[str, str, int], is_same: bool) -> None:
    first, second = (RemoteFile(Validators(tag, date), n_bytes) for tag, date, n_bytes in (one, other))
    assert first.is_same(second) is second.is_same(first) is is_same
