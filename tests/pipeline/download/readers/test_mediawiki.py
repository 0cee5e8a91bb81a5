"""Dumps as streams: every page, in any encoding; what is hostile is refused; memory does not grow with the dump."""

from __future__ import annotations

import io
import tracemalloc

import pytest

from pipeline.download.readers.mediawiki import MAX_TAG_BYTES, Dump, WikiPage, XmlError
from tests.pipeline.download.readers.made_dumps import HEAD, TAIL, page

DUMP = HEAD + page("One", 0, 1, "text & more") + page("Talk:One", 1, 2, "talk") + TAIL


def pages(data: bytes | str, max_chars: int = 1_000) -> list[WikiPage]:
    return list(Dump(max_chars).pages(io.BytesIO(data.encode() if isinstance(data, str) else data)))


def test_pages_and_the_site() -> None:
    dump = Dump(1_000)
    found = list(dump.pages(io.BytesIO(DUMP.encode())))
    assert [(p.title, p.namespace, p.id, p.revision, p.text) for p in found] == [
        ("One", 0, 1, 1_001, "text & more"),
        ("Talk:One", 1, 2, 1_002, "talk"),
    ]
    assert dump.site.base == "https://made.example/wiki/Main_Page"
    assert dump.site.namespaces == {0: "", 1: "Talk", 6: "Datei", 14: "Kategorie"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(encoding: str) -> None:
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    assert [p.text for p in pages(mark + DUMP.encode(encoding))] == ["text & more", "talk"]


def test_the_last_revision_counts() -> None:
    two = page("One", 0, 1, "old", more="<revision><id>7</id><text>new</text></revision>")
    (found,) = pages(HEAD + two + TAIL)
    assert (found.text, found.revision, found.n_revisions, found.id) == ("new", 7, 2, 1)


def test_a_long_text_is_dropped_and_marked() -> None:
    short, long, after = pages(
        HEAD + page("A", 0, 1, "x" * 1_000) + page("B", 0, 2, "x" * 1_001) + page("C", 0, 3, "c") + TAIL
    )
    assert (short.is_too_large, long.is_too_large, after.is_too_large) == (False, True, False)
    assert (len(short.text), long.text, after.text) == (1_000, "", "c")


@pytest.mark.parametrize("end", ["<page></wrong>", "", "<page><title>cut o"])
def test_a_broken_dump_gives_the_pages_before(end: str) -> None:
    reading = Dump(1_000).pages(io.BytesIO((DUMP.removesuffix(TAIL) + end).encode()))
    assert [next(reading).id, next(reading).id] == [1, 2]
    with pytest.raises(XmlError):
        next(reading)


def test_hostile_xml_is_refused() -> None:
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]>' + HEAD + page("A", 0, 1, "&a11;", is_raw=True) + TAIL
    for data in (
        bomb,
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">' + DUMP,
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + DUMP,
        "<a>" * 100_000,
        HEAD + "<page a='" + "x" * (MAX_TAG_BYTES + 1_000_000),
        HEAD + page("A", 0, 1, "&nbsp;", is_raw=True),
        "",
        "no XML",
    ):
        with pytest.raises(XmlError):
            pages(data)


class Endless(io.RawIOBase):
    """A dump of so many bytes, made as it is read."""

    def __init__(self, n_bytes: int) -> None:
        self.left, self.ready = n_bytes, HEAD.encode()
        self.page = page("A page", 0, 1, "some text\n" * 1_000).encode()

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
            for _ in Dump(1_000_000).pages(Endless(n_bytes)):  # pyright: ignore[reportArgumentType]
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000
