"""Test reading in chunks: order, progress, and errors in the middle of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.download.params import Warc
from pipeline.download.readers import chunks
from pipeline.download.readers.chunks import Counted, Item, Problem, Raw, make_document, make_locator, open_chunked
from pipeline.download.readers.document import Document, Reject
from pipeline.frame.errors import UserError
from pipeline.storage.files import find_files
from pipeline.storage.streams import CountedFile


def read_lines(file: CountedFile, name: str, max_bytes: int) -> Iterator[Item]:
    """Yield one page per line; a line `!` breaks the file."""
    for number, line in enumerate(iter(lambda: file.file.readline(), b"")):
        file.n_read += len(line)
        if line == b"!\n":
            raise EOFError("cut off")
        if number == 1:
            yield Problem({"line": number}, "odd", "x")
        yield Raw(line.decode().strip(), len(line))
        yield Counted("lines")


def make_page(params: Warc, file: str, page: str) -> Document | Reject:
    return make_document("warc/made", file, {}, page, page, "", "unknown")


@pytest.mark.parametrize("chunk_pages", [1, 3, 512])
def test_files_are_read_in_order_and_errors_become_rejects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_pages: int
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_PAGES", chunk_pages)
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")
    (tmp_path / "b.x").write_bytes(b"b1\n\nb3\n")
    (tmp_path / "a.x").write_bytes(b"".join(b"a%d\n" % n for n in range(20)) + b"!\nlost\n")
    params = Warc(kind="warc", name="made", path=str(tmp_path))
    reading = open_chunked(params, "source", read_lines, make_page)
    batches = list(reading.batches)
    assert [one.text for batch in batches for one in batch.docs] == [f"a{n}" for n in range(20)] + ["b1", "b3"]
    assert [(one.reason, one.locator) for batch in batches for one in batch.rejects] == [
        ("odd", '{"file":"a.x","line":1}'),
        ("unreadable", '{"file":"a.x"}'),
        ("odd", '{"file":"b.x","line":1}'),
        ("empty_text", '{"file":"b.x"}'),
    ]
    assert sum(batch.n_bytes for batch in batches) == reading.total_bytes
    assert sum(batch.counts.get("lines", 0) for batch in batches) == 23


def test_a_path_may_be_a_file_a_folder_or_a_glob(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"abc")
    _, files, n_hidden = find_files(str(tmp_path / "a.warc.gz"), "s")
    assert ([(one.name, one.n_bytes) for one in files], n_hidden) == ([("a.warc.gz", 3)], 0)
    assert find_files(str(tmp_path), "s")[1] == files
    assert find_files(str(tmp_path / "*.gz"), "s")[1] == files
    (tmp_path / ".b.warc").write_bytes(b"")
    assert find_files(str(tmp_path), "s")[1:] == (files, 1)
    _, [named], n_hidden = find_files(str(tmp_path / ".b.warc"), "s")
    assert (named.name, n_hidden) == (".b.warc", 0)
    with pytest.raises(UserError, match="s: "):
        find_files(str(tmp_path / "b"), "s")
    with pytest.raises(UserError, match="s: "):
        find_files("nonsense://x", "s")


def test_file_names_that_are_not_utf_8_are_escaped() -> None:
    assert make_locator("a\udc80", {"page": 1}) == '{"file":"a\\udc80","page":1}'
