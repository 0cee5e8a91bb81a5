"""The champion's folder: complete at every moment, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.inference.model_choice import CHAMPION
from pipeline.frame.errors import UserError
from pipeline.registry.champion import LINK, copy_to, install, read_installed


def fill_with(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text(text)

    return fill


def never(_folder: Path) -> None:
    pytest.fail("fetched twice")


def broken(folder: Path) -> None:
    (folder / "weights").write_text("half")
    raise OSError("connection lost")


def test_a_version_that_is_downloaded_is_not_fetched_again(tmp_path: Path) -> None:
    link = install(tmp_path, "1-a", {"alias": "champion"}, fill_with("one"))
    assert install(tmp_path, "1-a", {"alias": "champion", "more": "yes"}, never) == link
    assert json.loads((link / "version.json").read_text()) == {"alias": "champion", "more": "yes"}


def test_a_fetch_that_fails_changes_nothing(tmp_path: Path) -> None:
    link = install(tmp_path, "1-a", {}, fill_with("one"))
    with pytest.raises(OSError, match="connection lost"):
        install(tmp_path, "2-b", {}, broken)
    assert (link / "weights").read_text() == "one"
    assert [path.name for path in (tmp_path / "var/versions").iterdir()] == ["1-a"]


def test_the_replaced_version_is_kept_until_the_next_replacement(tmp_path: Path) -> None:
    """A process that has it open can continue to read it."""
    for name in ("1-a", "2-b", "3-c"):
        link = install(tmp_path, name, {}, fill_with(name))
        assert (link / "weights").read_text() == name
    assert sorted(path.name for path in (tmp_path / "var/versions").iterdir()) == ["2-b", "3-c"]


def test_the_installed_version_is_read_back_from_the_folder_that_the_assistant_uses(tmp_path: Path) -> None:
    assert read_installed(tmp_path) == {}
    about = {"version": "1", "alias": "champion"}
    install(tmp_path, "1-a", about, fill_with("one"))
    assert read_installed(tmp_path) == about
    assert CHAMPION == LINK


def test_the_workspace_can_be_moved(tmp_path: Path) -> None:
    install(tmp_path / "here", "1-a", {}, fill_with("one"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there/var/champion/weights").read_text() == "one"


def test_a_folder_in_place_of_the_link_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "var/champion").mkdir(parents=True)
    with pytest.raises(UserError, match="in the way"):
        install(tmp_path, "1-a", {}, fill_with("one"))


def test_copy_to_accepts_an_empty_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (copy_to(tmp_path / "empty", {}, fill_with("one")) / "weights").read_text() == "one"
    (tmp_path / "file").write_text("")
    for used in (tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(UserError, match="already in use"):
            copy_to(used, {}, never)
