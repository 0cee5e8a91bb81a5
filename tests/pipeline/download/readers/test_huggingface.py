"""Test the source `huggingface` with a local server that implements the few hub requests needed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.download import stage as download
from pipeline.download.params import Download
from pipeline.download.readers import fetch
from pipeline.download.readers.fetch import RetryPolicy
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_docs
from tests.pipeline.download.readers.web_server import Page, Server, Trouble, run_server

COMMIT, LATER = "a" * 40, "b" * 40
REPO = "owner/openwebtext"


def compute_git_oid(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def make_owt(numbers: range) -> bytes:
    """Return a Parquet file with the one column of OpenWebText."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [f"Page {number}." for number in numbers]}), sink)
    return sink.getvalue()


class Hub:
    """One dataset repository with its commits."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def commit(self, commit: str, files: dict[str, bytes], branch: str = "main") -> None:
        api = f"/api/datasets/{REPO}"
        tree: list[dict[str, object]] = [{"type": "directory", "path": "data", "oid": "0" * 40, "size": 0}]
        for name, data in files.items():
            is_large = name.endswith(".parquet")
            oid, sha256 = compute_git_oid(data), hashlib.sha256(data).hexdigest()
            lfs = {"lfs": {"oid": sha256, "size": len(data), "pointerSize": 130}} if is_large else {}
            tree.append({"type": "file", "path": name, "size": len(data), "oid": oid, **lfs})
            headers = {"X-Repo-Commit": commit}
            self.server.pages[f"/datasets/{REPO}/resolve/{commit}/{name}"] = Page(
                data, f'"{sha256 if is_large else oid}"', headers=headers
            )
        info = json.dumps({"_id": "1", "id": REPO, "sha": commit, "siblings": []}).encode()
        for revision in (branch, commit):
            self.server.pages[f"{api}/revision/{revision}"] = Page(info)
        self.server.pages[f"{api}/tree/{commit}"] = Page(json.dumps(tree).encode())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with run_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("MINIGPT_FETCHED", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(fetch, "POLICY", RetryPolicy(max_failures=3, backoff_seconds=0.01))
        hub = Hub(server)
        files = {
            "data/0.parquet": make_owt(range(5)),
            "data/1.parquet": make_owt(range(5, 9)),
            "README.md": b"# Read me",
        }
        hub.commit(COMMIT, files)
        yield hub


def collect(out: Path, **settings: object) -> list[dict[str, object]]:
    given = {"kind": "huggingface", "name": "owt", "repo": REPO, "revision": "main", "files": ["data/*.parquet"]}
    params = Download.model_validate({"sources": [{**given, **settings}]})
    download.run(params, out=out, scratch=out.with_name(f"{out.name}.scratch"))
    return read_docs(out).sort_by("text").to_pylist()


def read_record(out: Path) -> list[dict[str, object]]:
    return json.loads((out / "sources.json").read_text())["sources"][0]["read"]


def test_a_branch_is_resolved_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    rows = collect(tmp_path / "out", license="CC0-1.0")
    assert [row["text"] for row in rows] == [f"Page {number}." for number in range(9)]
    assert (rows[0]["source"], rows[0]["license"]) == ("huggingface/owt", "CC0-1.0")
    assert rows[5]["url"] == f"https://huggingface.co/datasets/{REPO}/resolve/{COMMIT}/data/1.parquet"
    assert json.loads(str(rows[5]["locator"])) == {"path": "data/1.parquet", "repo": REPO, "row": 1}
    read = read_record(tmp_path / "out")
    assert [(file["path"], file["revision"], file["commit"]) for file in read] == [
        ("data/0.parquet", "main", COMMIT),
        ("data/1.parquet", "main", COMMIT),
    ]
    assert read[0]["oid"] == hashlib.sha256(make_owt(range(5))).hexdigest()


def test_an_interrupted_download_is_retried_and_every_byte_counted_once(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"/datasets/{REPO}/resolve/{COMMIT}/data/1.parquet"
    hub.server.pages[name].troubles = [Trouble(cut_after=100)]
    assert len(collect(tmp_path / "out")) == 9
    assert [(method, path) for method, path, _, _ in hub.server.log].count(("GET", name)) == 2
    assert "fetching [########################] 100%" in capsys.readouterr().out


def test_a_busy_hub_is_retried(hub: Hub, tmp_path: Path) -> None:
    for page in hub.server.pages.values():
        page.troubles = [Trouble(503)]
    assert len(collect(tmp_path / "out")) == 9


def test_only_changed_files_are_fetched_when_the_branch_advances(hub: Hub, tmp_path: Path) -> None:
    before = collect(tmp_path / "a")
    hub.commit(LATER, {"data/0.parquet": make_owt(range(5)), "data/1.parquet": make_owt(range(5, 10))})
    after = collect(tmp_path / "b")
    assert {file["commit"] for file in read_record(tmp_path / "b")} == {LATER}
    assert len(after) == 10
    assert {row["id"] for row in before} < {row["id"] for row in after}
    fetched = [path for method, path, _, _ in hub.server.log if method == "GET" and "/resolve/" in path]
    assert sorted(path.rpartition("/resolve/")[2] for path in fetched) == [
        f"{COMMIT}/data/0.parquet",
        f"{COMMIT}/data/1.parquet",
        f"{LATER}/data/1.parquet",
    ]


def test_a_cached_commit_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    first = collect(tmp_path / "a", revision=COMMIT)
    n_asked = len(hub.server.log)
    assert collect(tmp_path / "b", revision=COMMIT) == first
    assert len(hub.server.log) == n_asked


def test_other_file_formats_and_columns(hub: Hub, tmp_path: Path) -> None:
    [row] = collect(tmp_path / "out", files=["*.md"])
    assert (row["text"], row["title"]) == ("# Read me", "README.md")
    with pytest.raises(UserError, match=r"download\.sources\.0\.text_column[^$]+text"):
        collect(tmp_path / "wrong", text_column="content")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"files": ["data/*.parquet", "*.jsonl"]},
            r"files\.1: no file of owner/openwebtext matches '\*\.jsonl'[^$]+README",
        ),
        ({"repo": "owner/nothing"}, r"sources\.0\.repo: no such dataset: owner/nothing"),
        ({"revision": "nowhere"}, r"sources\.0\.revision: owner/openwebtext has no nowhere"),
        ({"repo": "owner/gated"}, r"sources\.0\.repo: no access to the gated repository owner/gated[^$]+HF_TOKEN"),
        ({"repo": "-bad-/--x"}, r"sources\.0\.repo: not a valid repository name"),
    ],
)
def test_a_missing_repository_revision_or_file_is_reported(
    settings: dict[str, object], message: str, hub: Hub, tmp_path: Path
) -> None:
    pages = hub.server.pages
    for repo, code in (("owner/nothing", "RepoNotFound"), ("owner/gated", "GatedRepo")):
        status = 401 if code == "RepoNotFound" else 403
        pages[f"/api/datasets/{repo}/revision/main"] = Page(b"", troubles=[Trouble(status, {"X-Error-Code": code})] * 9)
    missing = [Trouble(404, {"X-Error-Code": "RevisionNotFound"})] * 9
    pages[f"/api/datasets/{REPO}/revision/nowhere"] = Page(b"", troubles=missing)
    with pytest.raises(UserError, match=message):
        collect(tmp_path / "out", **settings)


def test_a_missing_network_is_reported(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot reach the hub for owner/openwebtext[^$]+a commit fetched before"):
        collect(tmp_path / "out")


def test_a_file_that_does_not_match_the_hub_s_hash_is_fetched_again(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect(tmp_path / "a", revision=COMMIT)
    [blob] = [path for path in (tmp_path / "cache").rglob("blobs/*") if path.read_bytes() == make_owt(range(5))]
    blob.write_bytes(make_owt(range(20, 25)))
    rows = collect(tmp_path / "b", revision=COMMIT)
    assert [row["text"] for row in rows] == [f"Page {number}." for number in range(9)]
    assert "does not match the hub's hash" in capsys.readouterr().out
    hub.server.pages[f"/datasets/{REPO}/resolve/{COMMIT}/data/0.parquet"].data = make_owt(range(30, 35))
    blob.write_bytes(b"corrupted")
    with pytest.raises(UserError, match=r"cannot fetch data/0\.parquet of owner/openwebtext[^$]+the hub lists"):
        collect(tmp_path / "c", revision=COMMIT)
