"""Test the source `warc`: which records become documents, counts or rejects, and their license."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from pipeline.download.params import Warc
from pipeline.download.readers import chunks
from pipeline.download.readers.document import Document, DocumentBatch
from pipeline.download.sources import open_source
from pipeline.frame.errors import UserError
from tests.pipeline.download.readers.sample_archives import HTML, PACKED, PROSE, make_page, make_record, make_records

LICENSED = make_page(6).replace(
    b"<h1>", b'<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"><h1>'
)


def make_response(status: str = "200 OK", kind: str = "text/html", body: bytes = b"", **fields: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}\r\n".encode() + body


def make_html(number: int, text: str = PROSE) -> bytes:
    return (HTML % (number, number)).replace(PROSE, text).encode()


RECORDS = [
    *make_records(2),
    make_record(10, make_response(kind="text/plain; charset=latin-1", body="déjà\r\nvu".encode("latin-1"))),
    make_record(11, make_response(kind="image/png", body=b"\x89PNG")),
    make_record(12, make_response("404 Not Found", body=make_html(12))),
    make_record(13, make_response(body=gzip.compress(make_html(13)), Content_Encoding="gzip")),
    make_record(
        14,
        make_response(body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(make_html(14)), make_html(14)), Transfer_Encoding="chunked"),
    ),
    make_record(15, make_response(body=make_html(15, "Привет, мир! " * 20), kind="text/html; charset=utf-8")),
    make_record(
        16,
        make_response(
            body=make_html(16, "Привет, мир! " * 20).decode().encode("cp1251"), kind="text/html; charset=cp1251"
        ),
    ),
    make_record(17, make_response(body=b"<html><body></body></html>")),
    make_record(18, make_response(body=b"<div>" * 100_000)),
    make_record(19, make_response(body=gzip.compress(make_html(19))[:-30], Content_Encoding="gzip")),
    make_record(20, make_response(body=gzip.compress(bytes(3_000_000)), Content_Encoding="gzip")),
    make_record(21, make_html(21), "resource", Content_Type="text/html"),
    make_record(22, b"a log", "resource", WARC_Target_URI="metadata://crawler/log"),
    make_record(23, b"Extracted text\n\nof a page", "conversion", WARC_Target_URI="<http://a.example/wet>"),
    make_record(24, b"20260101 1.2.3.4", "response", Content_Type="text/dns", WARC_Target_URI="dns:a.example"),
    make_record(25, b"{}", "metadata"),
    make_record(26, b"", "revisit"),
    make_record(27, make_response(kind="", body=make_html(27))),
    make_record(28, LICENSED),
]


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")


def read_batches(path: Path | str, **settings: object) -> list[DocumentBatch]:
    values = {"kind": "warc", "name": "made", "path": str(path), "max_member_bytes": 1_000_000, **settings}
    reading = open_source(Warc.model_validate(values), "download.sources.0")
    found = list(reading.batches)
    assert sum(batch.n_bytes for batch in found) == reading.total_bytes
    return found


def get_documents(found: list[DocumentBatch]) -> dict[str, Document]:
    return {document.url.removeprefix("http://a.example/"): document for batch in found for document in batch.docs}


def count_reasons(found: list[DocumentBatch]) -> Counter[str]:
    return Counter(reject.reason for batch in found for reject in batch.rejects)


@pytest.mark.parametrize("packing", PACKED)
def test_pages_become_documents_and_other_records_are_counted(tmp_path: Path, packing: str) -> None:
    (tmp_path / f"made.warc{packing}").write_bytes(b"".join(map(PACKED[packing], RECORDS)))
    found = read_batches(tmp_path, license="CC0-1.0")
    texts = get_documents(found)
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
    assert count_reasons(found) == {"empty_text": 1, "hostile_markup": 1, "bad_encoding": 1, "too_large": 1}
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


def test_files_that_are_not_archives_become_rejects(tmp_path: Path) -> None:
    (tmp_path / "good.warc").write_bytes(b"".join(make_records(3)))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.warc").write_bytes(b"")
    found = read_batches(tmp_path)
    assert [document.title for document in get_documents(found).values()] == ["Fox 0", "Fox 1", "Fox 2"]
    assert count_reasons(found) == {"unknown_format": 1}
    assert sum(batch.counts.get("hidden_files", 0) for batch in found) == 1


@pytest.mark.parametrize("name", ["old.arc", "old.arc.gz", "OLD.ARC.bz2"])
def test_an_arc_file_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.warc").write_bytes(b"".join(make_records(1)))
    (tmp_path / name).write_bytes(b"filedesc://old.arc 0.0.0.0 20260101000000 text/plain 0\n")
    with pytest.raises(UserError, match=rf"download\.sources\.0\.path.*\n.*{name}\n.*WARC"):
        read_batches(tmp_path)


def test_a_truncated_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    for name, data in (
        ("a.warc.gz", b"".join(map(gzip.compress, make_records(9)))),
        ("b.warc.gz", gzip.compress(b"".join(make_records(9)))),
    ):
        (tmp_path / name).write_bytes(data[: len(data) * 3 // 4])
        found = read_batches(tmp_path / name)
        assert list(get_documents(found)) == list("012345678")[: len(get_documents(found))]
        assert sum(count_reasons(found).values()) == 1


def test_a_decompression_bomb_ends_its_file_only(tmp_path: Path) -> None:
    bomb = gzip.compress(make_record(5, bytes(150_000_000)), 9)
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(make_records(1)[1]) + bomb)
    (tmp_path / "b.warc").write_bytes(make_records(1)[1])
    found = read_batches(tmp_path)
    assert sum(len(batch.docs) for batch in found) == 2
    assert count_reasons(found) == {"decompression_bomb": 1}


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"download\.sources\.0\.path"):
        read_batches(tmp_path / "missing.warc")


@pytest.mark.slow
def test_the_same_documents_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_PAGES", 5)
    for name in ("a", "b"):
        (tmp_path / f"{name}.warc").write_bytes(b"".join(make_records(60)))
    alone = read_batches(tmp_path)
    monkeypatch.setenv("MINIGPT_ENGINE", "process")
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    assert read_batches(tmp_path) == alone
    assert len(alone) > 8  # more than this process reads itself


def test_pages_of_any_type_and_charset_that_browsers_show_are_read(tmp_path: Path) -> None:
    gzipped = make_response(kind="", body=gzip.compress(make_html(1)), Content_Encoding="gzip")
    records = [
        make_record(1, gzipped.replace(b"Content-Type: \r\n", b"")),
        make_record(2, make_response(kind="text/html charset=utf-8", body=make_html(2, "déjà vu " * 40))),
        make_record(3, make_response(kind='"text/html"', body=make_html(3).decode().encode("utf-16-be"))),
        make_record(4, make_response(kind="*/*", body=make_html(4).decode().encode("utf-16-le"))),
        make_record(5, make_response(kind="text/xml", body=b"<?xml version='1.0'?>" + make_html(5))),
        make_record(6, make_response(kind="text/xml", body=b"<?xml version='1.0'?><rss>not a page</rss>")),
        make_record(7, make_response(kind="application/octet-stream", body=make_html(7))),
        make_record(8, make_response(kind="text/plain; charset=utf-16le", body="Привет".encode("utf-16-le"))),
        make_record(9, make_response(kind="text/plain", body=make_html(9))),
        make_record(10, make_response(kind="text/plain", body=b"PK\x03\x04\x14\0\x06\0")),
    ]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    found = read_batches(tmp_path)
    texts = get_documents(found)
    assert {name: document.title for name, document in texts.items()} == {
        **{name: f"Fox {name}" for name in "12345"},
        **dict.fromkeys("89", ""),
    }
    assert "déjà vu déjà vu" in texts["2"].text
    assert texts["8"].text == "Привет"
    assert texts["9"].text.startswith("<!DOCTYPE html>")
    assert count_reasons(found) == {"not_text": 1}
    assert sum((Counter(dict(batch.counts)) for batch in found), Counter[str]()) == {"warc_skipped_type": 2}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_archives_inside_a_wacz_are_read(tmp_path: Path, method: int) -> None:
    packed = b"".join(map(gzip.compress, make_records(2)))
    request = gzip.compress(make_records(2)[-1])
    with zipfile.ZipFile(tmp_path / "crawl.wacz", "w", method) as archive:
        archive.writestr("datapackage.json", "{}")
        archive.writestr("indexes/index.cdx.gz", gzip.compress(b"x"))
        archive.writestr("archive/a.warc.gz", packed)
        archive.writestr("archive/b.warc.gz", packed[: -len(request)][:-60])
        archive.writestr("archive/c.warc", b"".join(make_records(1)))
    found = read_batches(tmp_path)
    locators = [json.loads(document.locator) for batch in found for document in batch.docs]
    assert [each["member"] for each in locators] == [
        f"archive/{name}" for name in ("a.warc.gz",) * 2 + ("b.warc.gz",) + ("c.warc",)
    ]
    [reject] = [reject for batch in found for reject in batch.rejects]
    assert reject.reason == "clipped_record"
    assert json.loads(reject.locator)["member"] == "archive/b.warc.gz"
    assert {document.url for batch in found for document in batch.docs} == {"http://a.example/0", "http://a.example/1"}


def test_a_wacz_that_is_no_zip_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "crawl.wacz").write_bytes(b"no zip")
    assert count_reasons(read_batches(tmp_path)) == {"unreadable": 1}
