"""Test streaming dumps: every page, in any encoding; hostile XML is refused; memory does not grow with the dump."""

from __future__ import annotations

import io
import tracemalloc

import pytest

from pipeline.download.readers.mediawiki import MAX_TAG_BYTES, Dump, WikiPage, XmlError
from tests.pipeline.download.readers.sample_dumps import HEAD, TAIL, make_page

DUMP = HEAD + make_page("One", 0, 1, "text & more") + make_page("Talk:One", 1, 2, "talk") + TAIL


def read_pages(data: bytes | str, max_chars: int = 1_000) -> list[WikiPage]:
    return list(Dump(max_chars).read_pages(io.BytesIO(data.encode() if isinstance(data, str) else data)))


def test_pages_and_the_site_are_read() -> None:
    dump = Dump(1_000)
    found = list(dump.read_pages(io.BytesIO(DUMP.encode())))
    assert [(p.title, p.namespace, p.id, p.revision, p.text) for p in found] == [
        ("One", 0, 1, 1_001, "text & more"),
        ("Talk:One", 1, 2, 1_002, "talk"),
    ]
    assert dump.site.base == "https://made.example/wiki/Main_Page"
    assert dump.site.namespaces == {0: "", 1: "Talk", 6: "Datei", 14: "Kategorie"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_other_encodings_are_read(encoding: str) -> None:
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    assert [p.text for p in read_pages(mark + DUMP.encode(encoding))] == ["text & more", "talk"]


def test_the_last_revision_is_used() -> None:
    two = make_page("One", 0, 1, "old", more="<revision><id>7</id><text>new</text></revision>")
    (found,) = read_pages(HEAD + two + TAIL)
    assert (found.text, found.revision, found.n_revisions, found.id) == ("new", 7, 2, 1)


def test_a_long_text_is_dropped_and_flagged() -> None:
    short, long, after = read_pages(
        HEAD + make_page("A", 0, 1, "x" * 1_000) + make_page("B", 0, 2, "x" * 1_001) + make_page("C", 0, 3, "c") + TAIL
    )
    assert (short.is_too_large, long.is_too_large, after.is_too_large) == (False, True, False)
    assert (len(short.text), long.text, after.text) == (1_000, "", "c")


@pytest.mark.parametrize("end", ["<page></wrong>", "", "<page><title>cut o"])
def test_the_pages_before_a_broken_one_are_read(end: str) -> None:
    reading = Dump(1_000).read_pages(io.BytesIO((DUMP.removesuffix(TAIL) + end).encode()))
    assert [next(reading).id, next(reading).id] == [1, 2]
    with pytest.raises(XmlError):
        next(reading)


def test_hostile_xml_is_refused() -> None:
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]>' + HEAD + make_page("A", 0, 1, "&a11;", is_raw=True) + TAIL
    for data in (
        bomb,
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">' + DUMP,
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + DUMP,
        "<a>" * 100_000,
        HEAD + "<page a='" + "x" * (MAX_TAG_BYTES + 1_000_000),
        HEAD + make_page("A", 0, 1, "&nbsp;", is_raw=True),
        "",
        "no XML",
    ):
        with pytest.raises(XmlError):
            read_pages(data)


class Endless(io.RawIOBase):
    """A dump of the given size, generated as it is read."""

    def __init__(self, n_bytes: int) -> None:
        self.left, self.ready = n_bytes, HEAD.encode()
        self.page = make_page("A page", 0, 1, "some text\n" * 1_000).encode()

    def read(self, size: int = -1) -> bytes:
        while self.left > 0 and len(self.ready) < size:
            self.ready, self.left = self.ready + self.page, self.left - len(self.page)
        data, self.ready = self.ready[:size], self.ready[size:]
        return data


def test_memory_does_not_grow_with_the_dump() -> None:
    peaks: list[int] = []
    for n_bytes in (2_000_000, 20_000_000):
        tracemalloc.start()
        with pytest.raises(XmlError):  # it has no end
            for _ in Dump(1_000_000).read_pages(Endless(n_bytes)):  # pyright: ignore[reportArgumentType]
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000
