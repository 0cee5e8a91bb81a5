"""A folder and the statement of its files: every kind of change is found and named, and nothing is followed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from model.network.hashes import FILES, check_version, compute_digest, find_changes, hash_files


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """Return a pulled version whose files are as stated."""
    folder = tmp_path / "v1"
    for name in ("model/config.json", "index/sections.arrow", "package/code/a.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / FILES).write_text(json.dumps(hash_files(folder)))
    return folder


def read_stated(version: Path) -> dict[str, str]:
    return json.loads((version / FILES).read_text())


def append(path: Path) -> None:
    path.write_text(path.read_text() + " ")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one byte more": (lambda folder: append(folder / "model/config.json"), "model/config.json was changed"),
    "missing": (lambda folder: (folder / "index/sections.arrow").unlink(), "index/sections.arrow is missing"),
    "code": (lambda folder: (folder / "model/evil.py").write_text("x"), "model/evil.py was added"),
    "pickle": (lambda folder: (folder / "model/a.pkl").write_bytes(b"x"), "model/a.pkl was added"),
    "hidden": (lambda folder: (folder / "index/.x").touch(), "index/.x was added"),
    "link": (lambda folder: (folder / "model/x").symlink_to("/etc/passwd"), "model/x is a symbolic link"),
    "dangling": (lambda folder: (folder / "model/x").symlink_to("nowhere"), "model/x is a symbolic link"),
    "folder": (lambda folder: (folder / "index/x").symlink_to("/", True), "index/x is a symbolic link"),
    "pipe": (lambda folder: os.mkfifo(folder / "model/x"), "model/x was added"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(version: Path, name: str) -> None:
    check_version(version)
    change, found = CHANGES[name]
    change(version)
    assert find_changes(version, read_stated(version), ("model", "index")) == [found]
    with pytest.raises(ValueError, match=f"not what was published; found: {found}; .*registry pull"):
        check_version(version)


@pytest.mark.parametrize("name", ["model/config.json", "model"])
def test_what_is_replaced_by_a_link_to_its_own_content_is_named(version: Path, tmp_path: Path, name: str) -> None:
    (version / name).rename(tmp_path / "elsewhere")
    (version / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
        check_version(version)


def test_a_file_replaced_by_a_pipe_is_named_and_not_opened(version: Path) -> None:
    (version / "model/config.json").unlink()
    os.mkfifo(version / "model/config.json")
    with pytest.raises(ValueError, match=r"model/config\.json is no regular file"):
        check_version(version)


def test_a_stated_link_is_accepted_and_another_target_is_not(version: Path) -> None:
    link = version / "package/model"
    link.symlink_to("../model")
    stated = read_stated(version) | {"package/model": "../model"}
    assert find_changes(version, stated, ("package",)) == []
    link.unlink()
    link.symlink_to("../index")
    assert find_changes(version, stated, ("package",)) == ["package/model is a symbolic link"]


@pytest.mark.parametrize("content", ["", "[]", "null", "7", '{"model/config.json": 7}'])
def test_a_statement_that_cannot_be_read_is_an_error(version: Path, content: str) -> None:
    (version / FILES).write_text(content)
    with pytest.raises(ValueError, match="not what was published"):
        check_version(version)


def test_the_version_may_be_a_link_and_its_other_parts_are_not_read(version: Path, tmp_path: Path) -> None:
    (tmp_path / "champion").symlink_to(version)
    (version / "package/code/a.py").write_text("changed")
    check_version(tmp_path / "champion")


def test_the_digest_does_not_depend_on_the_order(version: Path) -> None:
    files = hash_files(version)
    assert compute_digest(files) == compute_digest(dict(reversed(files.items())))
    assert compute_digest(files) != compute_digest(files | {"x": "1"})
    (version / "model/link").symlink_to("config.json")
    with pytest.raises(ValueError, match="model/link is a symbolic link"):
        hash_files(version)
