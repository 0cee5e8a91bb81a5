"""Test links below data/raw: they are followed in all ways of naming a path, and DVC must see what is behind them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.download.links import find_source_files
from pipeline.download.params import Download, Text
from pipeline.download.sources import open_source
from pipeline.frame.errors import UserError

WAYS = ["data/raw", "data/raw/", "data/raw/*/*.txt", "data/raw/**/*.txt", "data/raw/books", "data/raw/books/a.txt"]
GRAPH = "stages: {{download: {{cmd: x, deps: [data/raw{}]}}}}\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder data/raw with a link to a folder elsewhere, and enter the workspace."""
    root, elsewhere = tmp_path / "workspace", tmp_path / "elsewhere" / "books"
    (root / "data" / "raw").mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.txt").write_text("behind the link")
    (root / "data" / "raw" / "books").symlink_to(elsewhere)
    monkeypatch.chdir(root)
    return root


def list_names(path: str) -> list[str]:
    return [file.name for file in find_source_files(path, "download.sources.0.path")[1]]


def read_rejects(path: str) -> dict[str, str]:
    reading = open_source(Text(kind="text", name="x", path=path), "download.sources.0")
    return {reject.reason: reject.detail for batch in reading.batches for reject in batch.rejects}


@pytest.mark.parametrize("path", WAYS)
def test_a_link_to_a_folder_is_followed(workspace: Path, path: str) -> None:
    assert [Path(name).name for name in list_names(path)] == ["a.txt"]
    reading = open_source(Text(kind="text", name="x", path=path), "download.sources.0")
    assert [document.text for batch in reading.batches for document in batch.docs] == ["behind the link"]


@pytest.mark.parametrize("path", WAYS)
def test_a_link_that_dvc_does_not_watch_is_refused_by_name(workspace: Path, path: str) -> None:
    (workspace / "dvc.yaml").write_text(GRAPH.format(""))
    with pytest.raises(UserError, match=r"download\.sources\.0\.path: leads through a link") as caught:
        list_names(path)
    assert "data/raw/books → " in caught.value.found
    assert "- data/raw/books` to the deps" in caught.value.do


@pytest.mark.parametrize("dep", ["data/raw/books", "../elsewhere", "../elsewhere/books"])
def test_a_link_that_is_a_dependency_is_followed(workspace: Path, dep: str) -> None:
    (workspace / "dvc.yaml").write_text(GRAPH.format(f", {dep}"))
    assert list_names("data/raw") == ["books/a.txt"]


def test_links_that_dvc_sees_or_that_are_not_read_do_not_matter(workspace: Path, tmp_path: Path) -> None:
    (workspace / "dvc.yaml").write_text(GRAPH.format(""))
    raw = workspace / "data" / "raw"
    (raw / "own").mkdir()
    (raw / "own" / "b.txt").symlink_to(tmp_path / "elsewhere" / "books" / "a.txt")  # DVC reads links to files
    (raw / "twice").symlink_to("own")
    assert list_names("data/raw/own") == ["b.txt"]
    assert list_names("data/raw/twice") == ["b.txt"]
    assert list_names("data/raw/[ot]*/*.txt") == ["own/b.txt", "twice/b.txt"]
    assert list_names(str(tmp_path / "elsewhere")) == ["books/a.txt"], "a path elsewhere is the user's own business"


def test_a_link_behind_a_watched_link_needs_its_own_dependency(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.txt").write_text("c")
    (tmp_path / "elsewhere" / "books" / "more").symlink_to(tmp_path / "more")
    (workspace / "dvc.yaml").write_text(GRAPH.format(", data/raw/books"))
    with pytest.raises(UserError, match=r"data/raw/books/more → "):
        list_names("data/raw")


def test_loops_end(workspace: Path) -> None:
    raw = workspace / "data" / "raw"
    for name in ("up", "down", "self"):
        (raw / name).mkdir()
        (raw / name / f"{name}.txt").write_text("x")
    (raw / "up" / "down").symlink_to("../down")
    (raw / "down" / "up").symlink_to("../up")
    (raw / "self" / "self").symlink_to(".")
    (raw / "self" / "root").symlink_to("/")
    (raw / "self" / "alone").symlink_to("alone")
    names = list_names("data/raw")
    assert [name for name in names if name.endswith(".txt") and not name.startswith("books")] == [
        "down/down.txt",
        "down/up/up.txt",
        "self/self.txt",
        "up/down/down.txt",
        "up/up.txt",
    ]
    assert "a link that leads back" in read_rejects("data/raw/self/r*")["unknown_format"]


def test_what_is_no_file_is_a_reject_and_never_opened(workspace: Path) -> None:
    raw = workspace / "data" / "raw"
    os.mkfifo(raw / "pipe.txt")
    (raw / "piped.txt").symlink_to("pipe.txt")
    (raw / "gone.txt").symlink_to("nowhere.txt")
    (raw / "annexed.txt").symlink_to("../.git/annex/objects/aa/bb/SHA256E-s1--cc.txt/SHA256E-s1--cc.txt")
    assert read_rejects("data/raw/pip*") == {"not_a_file": "a pipe, a socket or a device"}
    assert read_rejects("data/raw") == {
        "not_a_file": "a pipe, a socket or a device",
        "unreadable": "a link to nowhere.txt, which does not exist",
        "pointer_file": "a git-annex file that is not here: fetch it with `git annex get`",
    }


@pytest.mark.parametrize(
    ("data", "tool"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n", "git lfs pull"),
        (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\r\noid sha256:12\r\nsize 12\r\n", "git lfs pull"),
        (b"# xet version 0\nfilesize = 12\nhash = 'ab'\n", "xet"),
        (b"/annex/objects/SHA256E-s12--ab.txt\n", "git annex get"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.tar.gz", "a.zip"])
def test_pointers_are_named_as_what_they_are(workspace: Path, name: str, data: bytes, tool: str) -> None:
    (workspace / name).write_bytes(data)
    rejects = read_rejects(name)
    assert list(rejects) == ["pointer_file"]
    assert tool in rejects["pointer_file"]


@pytest.mark.parametrize("kind", ["warc", "wikipedia"])
def test_pointers_and_pipes_in_other_kinds_of_sources(workspace: Path, kind: str) -> None:
    ending = {"warc": ".warc.gz", "wikipedia": ".xml.bz2"}[kind]
    (workspace / "in").mkdir()
    (workspace / "in" / f"a{ending}").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    os.mkfifo(workspace / "in" / f"b{ending}")
    settings = {"kind": kind, "name": "x", "path": "in"}
    params = Download.model_validate({"sources": [settings]}).sources[0]
    rejects = [reject.reason for batch in open_source(params, "s").batches for reject in batch.rejects]
    assert rejects == ["pointer_file", "not_a_file"]


def test_a_folder_that_cannot_be_listed_is_a_reject(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, scan = workspace / "data" / "raw", os.scandir
    (raw / "private").mkdir()
    (raw / "open").mkdir()
    (raw / "open" / "b.txt").write_text("b")

    def refuse(path: str) -> object:
        if path.endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert read_rejects("data/raw") == {"unreadable": "a folder that this user may not list"}
    assert "open/b.txt" in list_names("data/raw")
