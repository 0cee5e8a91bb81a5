"""The files of the page: small, from nowhere else, under a strict policy, revalidated by their hash."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import pytest

from service.page.page_routes import FILES, FOLDER, takes_gzip
from tests.service.page.page_double import PageDouble, make_double_app, serve_app
from tests.service.page.page_driver import read_url

MAX_BYTES = 60_000
UNSAFE = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "new Function",
    "srcdoc",
    "DOMParser",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_app(make_double_app(PageDouble())) as made:
        yield made


def test_the_page_is_small() -> None:
    assert len(FILES) == 3
    assert sum((FOLDER / name).stat().st_size for name, _ in FILES.values()) <= MAX_BYTES


def test_the_files_name_no_other_host_and_make_no_markup_from_text() -> None:
    for name, _ in FILES.values():
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}, (
            name
        )  # SVG's name space, never fetched
        assert not [word for word in UNSAFE if word in text], name
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", (FOLDER / "index.html").read_text())


@pytest.mark.parametrize("path", FILES)
def test_each_file_has_its_type_and_the_policy(url: str, path: str) -> None:
    status, headers, body = read_url(url + path)
    assert (status, headers["content-type"], body) == (200, FILES[path][1], (FOLDER / FILES[path][0]).read_bytes())
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", FILES)
def test_a_known_file_is_not_sent_again(url: str, path: str) -> None:
    etag = read_url(url + path)[1]["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        status, headers, body = read_url(url + path, {"If-None-Match": known})
        assert (status, headers["etag"], body) == (304, etag, b""), known
    assert read_url(url + path, {"If-None-Match": '"other"'})[0] == 200


def test_files_are_compressed_for_those_who_take_it(url: str) -> None:
    _, headers, body = read_url(url + "/page.js", {"Accept-Encoding": "br, gzip"})
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(body) == (FOLDER / "page.js").read_bytes()
    assert read_url(url + "/page.js", method="HEAD")[2] == b""


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
    ],
)
def test_accepted_encodings(accepted: str, expected: bool) -> None:
    assert takes_gzip(accepted) is expected
