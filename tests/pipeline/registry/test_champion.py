"""The model in use as a folder: whole at every moment, replaced in one step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.registry.champion import copy_to, install


def fill_with(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "weights").write_text(text)

    return fill


def never(_folder: Path) -> None:
    pytest.fail("fetched twice")


def broken(folder: Path) -> None:
    (folder / "weights").write_text("half")
    raise OSError("the line went dead")


def test_a_version_that_lies_there_is_not_fetched_again(tmp_path: Path) -> None:
    link = install(tmp_path, "1-a", {"alias": "champion"}, fill_with("one"))
    assert install(tmp_path, "1-a", {"alias": "champion", "more": "yes"}, never) == link
    assert json.loads((link / "version.json").read_text()) == {"alias": "champion", "more": "yes"}


def test_a_fetch_that_fails_changes_nothing(tmp_path: Path) -> None:
    link = install(tmp_path, "1-a", {}, fill_with("one"))
    with pytest.raises(OSError, match="dead"):
        install(tmp_path, "2-b", {}, broken)
    assert (link / "weights").read_text() == "one"
    assert [path.name for path in (tmp_path / "var/versions").iterdir()] == ["1-a"]


def test_the_version_replaced_stays_one_turn_longer(tmp_path: Path) -> None:
    """Whoever has it open can go on reading."""
    for name in ("1-a", "2-b", "3-c"):
        link = install(tmp_path, name, {}, fill_with(name))
        assert (link / "weights").read_text() == name
    assert sorted(path.name for path in (tmp_path / "var/versions").iterdir()) == ["2-b", "3-c"]


def test_the_workspace_can_be_moved(tmp_path: Path) -> None:
    install(tmp_path / "here", "1-a", {}, fill_with("one"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there/var/champion/weights").read_text() == "one"


def test_a_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "var/champion").mkdir(parents=True)
    with pytest.raises(UserError, match="in the way"):
        install(tmp_path, "1-a", {}, fill_with("one"))


def test_copy_to_takes_an_empty_folder_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (copy_to(tmp_path / "empty", {}, fill_with("one")) / "weights").read_text() == "one"
    (tmp_path / "file").write_text("")
    for used in (tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(UserError, match="already in use"):
            copy_to(used, {}, never)
