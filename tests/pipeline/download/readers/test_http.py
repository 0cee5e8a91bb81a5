"""Test the source `http`: files are fetched, read, located and recorded."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.download import stage as download
from pipeline.download.params import Download, Text
from pipeline.download.readers import fetch, formats, text
from pipeline.download.readers.document import DocumentBatch, Reading
from pipeline.download.readers.fetch import RetryPolicy
from pipeline.download.sources import open_source
from pipeline.frame.errors import ParamError, UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.settings import ParamsSection
from pipeline.params import check_params
from pipeline.storage.tables import read_docs, read_table
from tests.conftest import ROOT, read_yaml
from tests.pipeline.download.readers.web_server import Page, Server, Trouble, run_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MINIGPT_FETCHED", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "POLICY", RetryPolicy(max_failures=3, backoff_seconds=0.01))
    with run_server() as started:
        yield started


def make_source(server: Server, *files: str | dict[str, str], **settings: object) -> dict[str, object]:
    named = [{"url": file} if isinstance(file, str) else file for file in files]
    full = [{**file, "url": server.url + file["url"]} for file in named]
    return {"kind": "http", "name": "web", "files": full, **settings}


def collect(out: Path, *sources: dict[str, object]) -> Metrics:
    params = Download.model_validate({"sources": list(sources)})
    return download.run(params, out=out, scratch=out.with_name(f"{out.name}.scratch"))


def make_fineweb() -> bytes:
    """Return a Parquet file with the columns of FineWeb, and a nested one."""
    rows = [
        {
            "text": f"Web text {number}.",
            "id": f"<urn:uuid:{number}>",
            "dump": "CC-MAIN-2024-10",
            "url": f"https://example.org/{number}",
            "date": "2024-02-21T00:00:00Z",
            "file_path": "s3://commoncrawl/x.warc.gz",
            "language": "en",
            "language_score": 0.97,
            "token_count": 5,
            "meta": {"license": "CC-BY-4.0", "tags": ["a", "b"]},
        }
        for number in range(50)
    ]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(0, "text", table["text"].cast(pa.large_string()))
    table = table.set_column(6, "language", table["language"].dictionary_encode())
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=20)
    return sink.getvalue()


def test_fineweb_is_read_by_naming_its_columns(server: Server, tmp_path: Path) -> None:
    server.pages["/f.parquet"] = Page(make_fineweb(), troubles=[Trouble(cut_after=2_000)])
    columns = {"id_column": "id", "url_column": "url", "license_column": "meta.license"}
    collect(tmp_path / "out", make_source(server, "/f.parquet", **columns))
    rows = read_docs(tmp_path / "out").sort_by("text").to_pylist()
    assert len(rows) == 50
    assert {key: rows[0][key] for key in ("text", "url", "license", "source", "title")} == {
        "text": "Web text 0.",
        "url": "https://example.org/0",
        "license": "CC-BY-4.0",
        "source": "http/web",
        "title": "f.parquet#1",
    }
    assert json.loads(rows[0]["locator"]) == {
        "id": "<urn:uuid:0>",
        "path": "f.parquet",
        "row": 1,
        "url": f"{server.url}/f.parquet",
    }


def test_files_of_every_format_are_read_and_recorded(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        info = tarfile.TarInfo("inside.txt")
        info.size = 6
        archive.addfile(info, io.BytesIO(b"packed"))
    server.pages["/a/t.txt.gz"] = Page(gzip.compress(b"one", mtime=0), etag='"x"')
    server.pages["/b/t.txt.gz"] = Page(
        gzip.compress(b"two", mtime=0), etag="", last_modified="Mon, 02 Nov 2026 10:00:00 GMT"
    )
    server.pages["/w.tar.xz"] = Page(packed.getvalue())
    server.pages["/get"] = Page(b'{"body": "three"}\nbroken\n')
    sha256 = hashlib.sha256(server.pages["/get"].data).hexdigest()
    given = make_source(
        server,
        "/a/t.txt.gz",
        "/b/t.txt.gz",
        "/w.tar.xz",
        {"url": "/get?file=3&token=hidden", "sha256": sha256, "file_name": "rows.jsonl"},
        text_column="body",
        license="CC0-1.0",
    )
    metrics = collect(tmp_path / "out", given)
    assert {key: metrics[key] for key in ("docs_out", "rejects_not_json", "docs_http_web")} == {
        "docs_out": 4,
        "rejects_not_json": 1,
        "docs_http_web": 4,
    }
    urls = {row["text"]: row["url"] for row in read_docs(tmp_path / "out").to_pylist()}
    shown = f"{server.url}/get?file=3&token=***"
    assert urls == {
        "one": f"{server.url}/a/t.txt.gz",
        "two": f"{server.url}/b/t.txt.gz",
        "packed": f"{server.url}/w.tar.xz",
        "three": shown,
    }
    [reject] = read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert (reject["source"], json.loads(reject["locator"])["url"]) == ("http/web", shown)
    [record] = json.loads((tmp_path / "out" / "sources.json").read_text())["sources"]
    assert [file["url"] for file in record["read"]] == [urls["one"], urls["two"], urls["packed"], shown]
    assert record["read"][3] == {
        "url": shown,
        "bytes": len(server.pages["/get"].data),
        "sha256": sha256,
        "etag": '"1"',
        "last_modified": "",
    }
    assert "hidden" not in (tmp_path / "out" / "sources.json").read_text()
    collect(tmp_path / "again", given)
    assert len(server.asked("GET")) == 4  # nothing is fetched twice
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_parts_can_be_sent_to_workers(server: Server) -> None:
    server.pages["/a.txt"] = Page(b"a")
    [given] = Download.model_validate({"sources": [make_source(server, "/a.txt")]}).sources
    [part] = open_source(given, "s").parts
    copy = pickle.loads(pickle.dumps(part)).open()
    assert copy.key == part.open().key
    assert [document.text for batch in copy.batches for document in batch.docs] == ["a"]


def test_a_404_stops_the_stage_and_names_the_url(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(b"a")
    with pytest.raises(UserError, match=r"download\.sources\.0\.files: cannot fetch http://127[^$]+/none\.txt[^$]+404"):
        collect(tmp_path / "out", make_source(server, "/a.txt", "/none.txt"))
    assert not (tmp_path / "out").exists()


def test_a_wrong_path_is_reported_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(b"a")
    with pytest.raises(UserError, match=r"download\.sources\.1\.path"):
        collect(
            tmp_path / "out",
            make_source(server, "/a.txt"),
            {"kind": "text", "name": "mine", "path": str(tmp_path / "nowhere")},
        )
    assert not server.log


def test_an_unsupported_file_format_is_reported(server: Server, tmp_path: Path) -> None:
    server.pages["/picture.png"] = Page(b"png")
    with pytest.raises(UserError, match=r"unsupported file format[^$]+picture\.png"):
        collect(tmp_path / "out", make_source(server, "/picture.png"))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"files": []}, "files"),
        ({"files": [{"url": "file:///etc/passwd"}]}, "files.0.url"),
        ({"files": [{"url": "https://a.org/x", "sha256": "12"}]}, "files.0.sha256"),
        ({"files": [{"url": "https://a.org/x", "file_name": "../x"}]}, "files.0.file_name"),
        ({"format": "exe"}, "format"),
    ],
)
def test_invalid_settings_are_refused_by_name(settings: dict[str, object], name: str) -> None:
    values = read_yaml(ROOT / "docs/recipes/smoke.yaml")
    given = {"kind": "http", "name": "web", "files": [{"url": "https://a.org/x.txt"}], **settings}
    values["download"]["sources"] = [given]
    with pytest.raises(ParamError, match=rf"download\.sources\.0\.http\.{name}"):
        check_params(values)


def test_a_format_without_parts_resumes_with_the_remaining_files(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_without_parts(params: Text, setting: str) -> Reading:
        reading = text.open_source(params, setting)

        def read_batches() -> Iterator[DocumentBatch]:
            opened.append(Path(params.path).name)
            if Path(params.path).name == "c.txt" and len(opened) == 3:
                raise OSError("stopped")
            yield from reading.batches

        return Reading(reading.total_bytes, read_batches())

    for name in "abc":
        server.pages[f"/{name}.txt"] = Page(name.encode())
    given = make_source(server, "/a.txt", "/b.txt", "/c.txt")
    collect(tmp_path / "parts", given)
    monkeypatch.setitem(formats.FORMATS, "text", (Text, open_without_parts))
    with pytest.raises(OSError, match="stopped"):
        collect(tmp_path / "out", given)
    collect(tmp_path / "out", given)
    assert opened == ["a.txt", "b.txt", "c.txt", "c.txt"]
    for name in ("docs-00000.parquet", "sources.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_setting_that_the_format_does_not_support_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(ParamsSection):
        kind: str
        name: str
        path: str
        license: str = "CC-BY-SA-4.0"

    server.pages["/a.txt"] = Page(b"a")
    seen: list[Plain] = []

    def open_plain(params: Plain, setting: str) -> Reading:
        seen.append(params)
        return text.open_source(Text(kind="text", name="x", path=params.path, license=params.license), setting)

    monkeypatch.setitem(formats.FORMATS, "text", (Plain, open_plain))
    collect(tmp_path / "out", make_source(server, "/a.txt"))
    assert seen[0].license == "CC-BY-SA-4.0"  # the format's own default
    with pytest.raises(UserError, match=r"download\.sources\.0\.split_on: not supported by the format text"):
        collect(tmp_path / "out", make_source(server, "/a.txt", split_on="x"))
