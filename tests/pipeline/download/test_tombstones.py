"""Test which documents a tombstone covers: spellings of one URL, subdomains, expressions that need a license."""

from __future__ import annotations

import string
from pathlib import Path

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
    read_tombstones,
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
    "feedback": st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=24, max_size=24).map("fb_{}".format),
}
STONE = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(
        make_tombstone, st.just(kind), VALUES[kind], st.text(max_size=20), st.sampled_from(["", "2026-11-20"])
    )
)


def canonicalize(url: str) -> str:
    return canonicalize_urls(pa.array([url]))[0].as_py()


def make_docs(*rows: tuple[str, str, str]) -> pa.RecordBatch:
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
def test_equivalent_spellings_of_a_url_are_canonicalized_equally(spelling: str) -> None:
    assert canonicalize(spelling) == "example.org/a/b?x=1"


@pytest.mark.parametrize(
    "other",
    [
        "https://example.org/A/b?x=1",
        "https://example.org/a/b?x=2",
        "https://example.org:8080/a/b?x=1",
        "https://example.com/a/b?x=1",
    ],
)
def test_different_urls_stay_different(other: str) -> None:
    assert canonicalize(other) != "example.org/a/b?x=1"


def test_non_ascii_urls_are_canonicalized() -> None:
    assert canonicalize("https://bücher.example/straße") == canonicalize("https://xn--bcher-kva.example/stra%c3%9fe")
    assert canonicalize("https://x.org/a%2fb") == "x.org/a%2Fb" != canonicalize("https://x.org/a/b")
    assert canonicalize("") == ""
    assert len(canonicalize_urls(pa.array([], pa.string()))) == 0


@given(VALUES["url"])
def test_canonicalization_is_idempotent(url: str) -> None:
    assert canonicalize(canonicalize(url)) == canonicalize(url)


@given(st.text(max_size=40) | st.text("abA%2:/.@?#[]wW \n\xa0\u2100\uff0f\uff1a09f", max_size=14))
@example("\xa00")
@example("www.www.a")
@example("%%361")
def test_any_text_can_be_canonicalized(text: str) -> None:
    assert canonicalize(canonicalize(text)) == canonicalize(text)
    assert extract_hosts(pa.array([text]))[0].as_py() is not None


@given(HOST, LABEL)
def test_a_domain_covers_itself_and_its_subdomains_only(domain: str, label: str) -> None:
    rows = [f"https://{domain}/x", f"http://{label}.{domain}", f"https://{label}{domain}/", f"https://x.yz/{domain}"]
    batch = make_docs(*((f"{i:032x}", url, "MIT") for i, url in enumerate(rows)))
    keys = match(batch, prepare([make_tombstone("domain", domain, "r")])).to_pylist()
    assert keys == [f"domain:{domain}", f"domain:{domain}", None, None]


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
def test_an_expression_needs_mit_or_not(expression: str, is_needed: bool) -> None:
    assert needs(expression, "MIT") is is_needed


@pytest.mark.parametrize(
    "spelled", ["GPL v3", "['GPL-3.0']", "https://www.gnu.org/licenses/gpl-3.0.html", '["MIT", "GPL-3.0"]']
)
def test_a_license_is_needed_in_any_spelling(spelled: str) -> None:
    assert needs(spelled, "GPL-3.0-only")
    assert not needs(spelled, "0BSD")


def test_license_exceptions_and_free_text() -> None:
    assert needs("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only")
    assert not needs("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-or-later")
    assert needs("no license at all!", "no license at all!")
    assert needs("unknown", "unknown")


@given(st.lists(STONE, max_size=8))
def test_the_file_is_sorted_and_round_trips(stones: list[Tombstone]) -> None:
    text = render(stones)
    parsed = parse(text)
    assert {stone.key for stone in parsed} == {stone.key for stone in stones}
    assert len(parsed) == len({stone.key for stone in stones})
    assert parsed == sorted(parsed)
    assert render(parsed) == text == render([*parsed, *stones])


@given(st.lists(STONE.filter(lambda stone: stone.kind != "feedback"), max_size=8), st.integers(0, 7))
def test_every_tombstone_covers_its_own_document(stones: list[Tombstone], chosen: int) -> None:
    rows = [
        (
            stone.value if stone.kind == "id" else f"{place:032x}",
            f"https://{stone.value}" if stone.kind in ("url", "domain") else "",
            stone.value if stone.kind == "license" else "Zlib",
        )
        for place, stone in enumerate(stones)
    ]
    keys = match(make_docs(*rows), prepare(stones)).to_pylist()
    assert all(keys)
    assert match(make_docs(*rows), prepare([])).null_count == len(rows)
    table = pa.Table.from_batches([make_docs(row) for row in rows], make_docs().schema)
    assert match(table, prepare(stones)).to_pylist() == keys
    for key, row in zip(keys, rows, strict=True):
        assert match(make_docs(row), prepare(stones)).to_pylist() == [key], "independent of the other rows"


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
def test_an_invalid_tombstone_is_refused(kind: str, value: str) -> None:
    with pytest.raises(UserError, match="takedown"):
        make_tombstone(kind, value, "r")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"kind": "id"}', '{"kind": "id", "value": "12"}', '{"kind": 1, "value": "x"}', '"x"']
)
def test_an_invalid_line_is_reported_by_its_number(line: str) -> None:
    with pytest.raises(UserError, match=r"takedowns\.jsonl:2: not a tombstone"):
        parse('{"kind": "domain", "value": "x.org"}\n' + line)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_the_file_may_have_been_edited_anywhere(tmp_path: Path, encoding: str, newline: str) -> None:
    stones = [
        make_tombstone("domain", "x.org", "asked\u2028by \x85 mail"),
        make_tombstone("url", "https://y.org/z", "é"),
    ]
    path = tmp_path / "takedowns.jsonl"
    path.write_bytes((newline + render(stones).replace("\n", newline) + newline).encode(encoding))
    assert read_tombstones(path) == stones
    joined = render(stones[:1]).encode("utf-8-sig") + render(stones[1:]).encode("utf-8-sig")
    path.write_bytes(joined)
    assert read_tombstones(path) == stones
    path.write_bytes(joined + b"nonsense\n")
    with pytest.raises(UserError, match=r"takedowns\.jsonl:3: not a tombstone"):
        read_tombstones(path)
