"""Read the headers of responses to requests for a file.

In: the status and the headers of a response (names in any case, as httpx.Headers takes them). Out: what it reports about
the file, as servers spell it: tag, date, length, range, compression, time to wait.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

from pipeline.download.readers.fetched_file import RemoteFile, Validators

UNKNOWN_CODINGS = {"br", "deflate", "compress", "x-compress"}  # are not decoded here
DECODED = {"gzip": ".gz", "x-gzip": ".gz", "zstd": ".zst"}


def parse_remote(status: int, headers: Mapping[str, str]) -> RemoteFile:
    """Return what a response reports about the file."""
    length = headers.get("Content-Length", "")
    if status == 206:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    validators = Validators(headers.get("ETag", ""), headers.get("Last-Modified", ""))
    coding = next((DECODED[coding] for coding in parse_codings(headers) if coding in DECODED), "")
    return RemoteFile(validators, int(length) if length.isascii() and length.isdigit() else -1, coding)


def parse_codings(headers: Mapping[str, str]) -> list[str]:
    """Return the compressions of a body. Other values (`aws-chunked`, `UTF-8`, `identity`, nothing) are set by mistake."""
    codings = (coding.strip().lower() for coding in headers.get("Content-Encoding", "").split(","))
    return [coding for coding in codings if coding in DECODED or coding in UNKNOWN_CODINGS]


def parse_range_start(headers: Mapping[str, str]) -> int:
    """Return the first position of the range that a response contains; -1 if it has none."""
    start = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(start[1]) if start else -1


def parse_retry_after(value: str) -> float:
    """Return the seconds of a Retry-After header, which is a number or a date; 0 if it is neither."""
    try:
        if value.strip().isdecimal():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
