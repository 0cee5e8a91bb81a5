"""Archives to documents: which records give one, what is counted, what is a reject, whose license it has."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from pipeline.download.params import Warc
from pipeline.download.readers import chunks
from pipeline.download.readers.document import Document, DocumentBatch
from pipeline.download.sources import open_source
from pipeline.frame.errors import UserError
from tests.pipeline.download.readers.made_archives import HTML, PACKED, PROSE, page, records, warc_record

LICENSED = page(6).replace(b"<h1>", b'<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"><h1>')


def answer(status: str = "200 OK", kind: str = "text/html", body: bytes = b"", **fields: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}\r\n".encode() + body


def html(number: int, text: str = PROSE) -> bytes:
    return (HTML % (number, number)).replace(PROSE, text).encode()


RECORDS = [
    *records(2),
    warc_record(10, answer(kind="text/plain; charset=latin-1", body="déjà\r\nvu".encode("latin-1"))),
    warc_record(11, answer(kind="image/png", body=b"\x89PNG")),
    warc_record(12, answer("404 Not Found", body=html(12))),
    warc_record(13, answer(body=gzip.compress(html(13)), Content_Encoding="gzip")),
    warc_record(14, answer(body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(html(14)), html(14)), Transfer_Encoding="chunked")),
    warc_record(15, answer(body=html(15, "Привет, мир! " * 20), kind="text/html; charset=utf-8")),
    warc_record(
        16, answer(body=html(16, "Привет, мир! " * 20).decode().encode("cp1251"), kind="text/html; charset=cp1251")
    ),
    warc_record(17, answer(body=b"<html><body></body></html>")),
    warc_record(18, answer(body=b"<div>" * 100_000)),
    warc_record(19, answer(body=gzip.compress(html(19))[:-30], Content_Encoding="gzip")),
    warc_record(20, answer(body=gzip.compress(bytes(3_000_000)), Content_Encoding="gzip")),
    warc_record(21, html(21), "resource", Content_Type="text/html"),
    warc_record(22, b"a log", "resource", WARC_Target_URI="metadata://crawler/log"),
    warc_record(23, b"Extracted text\n\nof a page", "conversion", WARC_Target_URI="<http://a.example/wet>"),
    warc_record(24, b"20260101 1.2.3.4", "response", Content_Type="text/dns", WARC_Target_URI="dns:a.example"),
    warc_record(25, b"{}", "metadata"),
    warc_record(26, b"", "revisit"),
    warc_record(27, answer(kind="", body=html(27))),
    warc_record(28, LICENSED),
]


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")


def batches(path: Path | str, **settings: object) -> list[DocumentBatch]:
    values = {"kind": "warc", "name": "made", "path": str(path), "max_member_bytes": 1_000_000, **settings}
    reading = open_source(Warc.model_validate(values), "download.sources.0")
    found = list(reading.batches)
    assert sum(batch.n_bytes for batch in found) == reading.total_bytes
    return found


def docs(found: list[DocumentBatch]) -> dict[str, Document]:
    return {document.url.removeprefix("http://a.example/"): document for batch in found for document in batch.docs}


def reasons(found: list[DocumentBatch]) -> Counter[str]:
    return Counter(reject.reason for batch in found for reject in batch.rejects)


@pytest.mark.parametrize("packing", PACKED)
def test_pages_and_what_is_none(tmp_path: Path, packing: str) -> None:
    (tmp_path / f"made.warc{packing}").write_bytes(b"".join(map(PACKED[packing], RECORDS)))
    found = batches(tmp_path, license="CC0-1.0")
    texts = docs(found)
    assert list(texts) == ["0", "1", "10", "13", "14", "15", "16", "21", "wet", "27", "28"]
    for name in ("0", "1", "13", "14", "21", "27"):
        assert texts[name].title == f"Fox {name}"
        assert texts[name].text == f"Fox\n\n{name} {PROSE}".strip()
    assert texts["10"].text == "déjà\nvu"
    assert all("Привет, мир!" in texts[name].text for name in ("15", "16"))
    assert texts["wet"].text == "Extracted text\n\nof a page"
    assert {name: document.license for name, document in texts.items() if document.license != "CC0-1.0"} == {
        "28": "CC-BY-4.0"
    }
    assert texts["0"].source == "warc/made"
    assert texts["0"].locator.startswith(f'{{"file":"made.warc{packing}","offset":')
    assert reasons(found) == {"empty_text": 1, "hostile_markup": 1, "bad_encoding": 1, "too_large": 1}
    counts = sum((Counter(dict(batch.counts)) for batch in found), Counter[str]())
    assert counts == {
        "warc_warcinfo": 1,
        "warc_request": 2,
        "warc_metadata": 1,
        "warc_revisit": 1,
        "warc_skipped_type": 1,
        "warc_skipped_status": 1,
        "warc_skipped_resource": 1,
        "warc_skipped_no_http": 1,
    }


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "good.warc").write_bytes(b"".join(records(3)))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.warc").write_bytes(b"")
    found = batches(tmp_path)
    assert [document.title for document in docs(found).values()] == ["Fox 0", "Fox 1", "Fox 2"]
    assert reasons(found) == {"unknown_format": 1}
    assert sum(batch.counts.get("hidden_files", 0) for batch in found) == 1


@pytest.mark.parametrize("name", ["old.arc", "old.arc.gz", "OLD.ARC.bz2"])
def test_an_arc_file_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.warc").write_bytes(b"".join(records(1)))
    (tmp_path / name).write_bytes(b"filedesc://old.arc 0.0.0.0 20260101000000 text/plain 0\n")
    with pytest.raises(UserError, match=rf"download\.sources\.0\.path.*\n.*{name}\n.*WARC"):
        batches(tmp_path)


def test_a_clipped_file_gives_what_could_be_read(tmp_path: Path) -> None:
    for name, data in (
        ("a.warc.gz", b"".join(map(gzip.compress, records(9)))),
        ("b.warc.gz", gzip.compress(b"".join(records(9)))),
    ):
        (tmp_path / name).write_bytes(data[: len(data) * 3 // 4])
        found = batches(tmp_path / name)
        assert list(docs(found)) == list("012345678")[: len(docs(found))]
        assert sum(reasons(found).values()) == 1


def test_a_bomb_ends_its_file_only(tmp_path: Path) -> None:
    bomb = gzip.compress(warc_record(5, bytes(150_000_000)), 9)
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(records(1)[1]) + bomb)
    (tmp_path / "b.warc").write_bytes(records(1)[1])
    found = batches(tmp_path)
    assert sum(len(batch.docs) for batch in found) == 2
    assert reasons(found) == {"decompression_bomb": 1}


def test_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"download\.sources\.0\.path"):
        batches(tmp_path / "missing.warc")


@pytest.mark.slow
def test_the_same_documents_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_PAGES", 5)
    for name in ("a", "b"):
        (tmp_path / f"{name}.warc").write_bytes(b"".join(records(60)))
    alone = batches(tmp_path)
    monkeypatch.setenv("MINIGPT_ENGINE", "process")
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    assert batches(tmp_path) == alone
    assert len(alone) > 8  # more than this process does itself
