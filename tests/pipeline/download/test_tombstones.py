"""Which documents a tombstone covers: spellings of one URL, domains below a domain, licenses that need a license."""

from __future__ import annotations

import string

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.download.tombstones import (
    KINDS,
    Tombstone,
    canonicalize_urls,
    extract_hosts,
    make_tombstone,
    match,
    needs,
    parse,
    prepare,
    render,
)
from pipeline.frame.errors import UserError

LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6)
HOST = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
PATH = st.lists(st.text(string.ascii_letters + "_~-.", min_size=1, max_size=6), max_size=3).map("/".join)
VALUES = {
    "id": st.text("0123456789abcdef", min_size=32, max_size=32),
    "url": st.builds(lambda host, path: f"https://{host}/{path}", HOST, PATH),
    "domain": HOST,
    "license": st.sampled_from(["MIT", "unknown", "CC-BY-NC-4.0", "all rights reserved"]),
}
STONE = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(
        tombstone, st.just(kind), VALUES[kind], st.text(max_size=20), st.sampled_from(["", "2026-11-20"])
    )
)


def one(url: str) -> str:
    return canonicalize_urls(pa.array([url]))[0].as_py()


def docs(*rows: tuple[str, str, str]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    names = ("id", "url", "license")
    return pa.record_batch({n: pa.array(list(c), pa.string()) for n, c in zip(names, columns, strict=True)})


@pytest.mark.parametrize(
    "spelling",
    [
        "https://example.org/a/b?x=1",
        "http://example.org/a/b?x=1",
        "HTTPS://www.EXAMPLE.org:443/a/b?x=1",
        "https://user:secret@example.org./a/b/?x=1#part",
        "//example.org:80/a/b?x=1",
        "example.org/%61/b?x=1 ",
    ],
)
def test_spellings_of_one_url(spelling: str) -> None:
    assert one(spelling) == "example.org/a/b?x=1"


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/A/b?x=1",
        "https://example.org/a/b?x=2",
        "https://example.org:8080/a/b?x=1",
        "https://example.com/a/b?x=1",
    ],
)
def test_other_urls_are_others(other: str) -> None:
    assert one(other) != "example.org/a/b?x=1"


def test_letters_of_all_alphabets() -> None:
    assert one("https://bücher.example/straße") == one("https://xn--bcher-kva.example/stra%c3%9fe")
    assert one("https://x.org/a%2fb") == "x.org/a%2Fb" != one("https://x.org/a/b")
    assert one("") == ""
    assert len(canonicalize_urls(pa.array([], pa.string()))) == 0


@given(VALUES["url"])
def test_canonical_twice_is_canonical_once(url: str) -> None:
    assert one(one(url)) == one(url)


@given(st.text(max_size=40) | st.text("abA%2:/.@?#[]wW \n\xa0\u2100\uff0f\uff1a09f", max_size=14))
@example("\xa00")
@example("www.www.a")
@example("%%361")
def test_no_text_is_too_odd_for_a_url(text: str) -> None:
    assert one(one(text)) == one(text)
    assert extract_hosts(pa.array([text]))[0].as_py() is not None


@given(HOST, LABEL)
def test_a_domain_covers_itself_and_what_is_below_and_nothing_else(domain: str, label: str) -> None:
    rows = [f"https://{domain}/x", f"http://{label}.{domain}", f"https://{label}{domain}/", f"https://x.yz/{domain}"]
    batch = docs(*((f"{i:032x}", url, "MIT") for i, url in enumerate(rows)))
    found = match(batch, prepare([make_tombstone("domain", domain, "r")])).to_pylist()
    assert found == [f"domain:{domain}", f"domain:{domain}", None, None]


@pytest.mark.parametrize(
    ("expression", "is_needed"),
    [
        ("MIT", True),
        ("mit", True),
        ("MIT AND Zlib", True),
        ("MIT OR Zlib", False),
        ("(MIT AND Zlib) OR (MIT AND ISC)", True),
        ("Zlib AND (MIT OR ISC)", False),
        ("Zlib", False),
        ("unknown", False),
        ("no license at all!", False),
    ],
)
def test_licenses_that_need_mit(expression: str, is_needed: bool) -> None:
    assert needs(expression, "MIT") is is_needed


def test_exceptions_and_words() -> None:
    assert needs("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only")
    assert not needs("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-or-later")
    assert needs("no license at all!", "no license at all!")
    assert needs("unknown", "unknown")


@given(st.lists(STONE, max_size=8))
def test_the_file_is_sorted_whole_and_read_back(stones: list[Tombstone]) -> None:
    text = render(stones)
    back = parse(text)
    assert {stone.key for stone in back} == {stone.key for stone in stones}
    assert len(back) == len({stone.key for stone in stones})
    assert back == sorted(back)
    assert render(back) == text == render([*back, *stones])


@given(st.lists(STONE, max_size=8), st.integers(0, 7))
def test_every_tombstone_covers_its_own_document(stones: list[Tombstone], chosen: int) -> None:
    rows = [
        (
            stone.value if stone.kind == "id" else f"{place:032x}",
            f"https://{stone.value}" if stone.kind in ("url", "domain") else "",
            stone.value if stone.kind == "license" else "Zlib",
        )
        for place, stone in enumerate(stones)
    ]
    keys = match(docs(*rows), prepare(stones)).to_pylist()
    assert all(keys)
    assert match(docs(*rows), prepare([])).null_count == len(rows)
    table = pa.Table.from_batches([docs(row) for row in rows], docs().schema)
    assert match(table, prepare(stones)).to_pylist() == keys
    for key, row in zip(keys, rows, strict=True):
        assert match(docs(row), prepare(stones)).to_pylist() == [key], "whatever stands beside it"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("id", "12"),
        ("id", "g" * 32),
        ("url", "  "),
        ("url", "https://"),
        ("domain", "a b"),
        ("domain", "x.org/y"),
        ("license", ""),
        ("colour", "red"),
    ],
)
def test_what_is_no_tombstone_is_refused(kind: str, value: str) -> None:
    with pytest.raises(UserError, match="takedown"):
        make_tombstone(kind, value, "r")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"kind": "id"}', '{"kind": "id", "value": "12"}', '{"kind": 1, "value": "x"}', '"x"']
)
def test_a_broken_line_is_named(line: str) -> None:
    with pytest.raises(UserError, match=r"takedowns\.jsonl:2: not a tombstone"):
        parse('{"kind": "domain", "value": "x.org"}\n' + line)
