"""Which model is talked to, and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assistant.inference.choice import PARTS, choose


def make(folder: Path, parts: tuple[str, ...] = PARTS) -> Path:
    folder.mkdir(parents=True)
    for name in parts:
        (folder / name).touch()
    return folder


def test_the_order_of_choice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make run"):
        choose(None, None, tmp_path)
    pretrain = make(tmp_path / "data/pretrain")
    assert choose(None, None, tmp_path).folder == pretrain
    sft = make(tmp_path / "data/sft")
    choice = choose(None, None, tmp_path)
    assert choice.folder == sft
    assert "no champion yet" in choice.why
    champion = make(tmp_path / "var/champion/model")
    (tmp_path / "var/champion/version.json").write_text('{"name": "minigpt", "version": "3", "alias": "champion"}')
    choice = choose(None, None, tmp_path)
    assert (choice.folder, choice.why) == (champion, "minigpt version 3, champion of the registry")
    named = choose(Path("elsewhere"), None, tmp_path)
    assert (named.folder, named.why) == (Path("elsewhere"), "named by --model")


@pytest.mark.parametrize("missing", PARTS)
def test_an_incomplete_champion_is_passed_over_and_named(tmp_path: Path, missing: str) -> None:
    make(tmp_path / "var/champion/model", tuple(name for name in PARTS if name != missing))
    sft = make(tmp_path / "data/sft")
    choice = choose(None, None, tmp_path)
    assert choice.folder == sft
    assert missing in choice.why


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "\0"])
def test_a_champion_without_a_readable_version_is_still_one(tmp_path: Path, content: str | None) -> None:
    champion = make(tmp_path / "var/champion/model")
    if content is not None:
        (tmp_path / "var/champion/version.json").write_text(content)
    assert choose(None, None, tmp_path).folder == champion


def test_a_link_to_a_version_that_is_gone_is_no_champion(tmp_path: Path) -> None:
    gone = make(tmp_path / "var/versions/1/model").parent
    (tmp_path / "var/champion").symlink_to(gone)
    assert choose(None, None, tmp_path).folder == tmp_path / "var/champion/model"
    shutil.rmtree(gone)
    make(tmp_path / "data/sft")
    assert choose(None, None, tmp_path).folder == tmp_path / "data/sft"


def test_the_index_is_the_one_beside_the_model_or_the_one_named(tmp_path: Path) -> None:
    for folder in ("var/champion/index", "data/index", "mine"):
        make(tmp_path / folder, ("passages.sqlite",))
    make(tmp_path / "var/champion/model")
    sft = make(tmp_path / "data/sft")
    assert choose(None, None, tmp_path).index == tmp_path / "var/champion/index"
    assert choose(sft, None, tmp_path).index == tmp_path / "data/index"
    assert choose(None, tmp_path / "mine", tmp_path).index == tmp_path / "mine"
    assert choose(make(tmp_path / "alone/model"), None, tmp_path).index is None
    with pytest.raises(ValueError, match=r"--index .*/sft .*passages\.sqlite"):
        choose(None, sft, tmp_path)


def test_a_champion_in_the_previous_layout_is_to_be_pulled_again(tmp_path: Path) -> None:
    make(tmp_path / "var/champion")
    make(tmp_path / "data/sft")
    with pytest.raises(ValueError, match=r"earlier version.*python -m pipeline\.registry pull"):
        choose(None, None, tmp_path)
