"""Which model is chosen, and the reason that is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assistant.inference.model_choice import PARTS, choose_model


def touch_files(folder: Path, parts: tuple[str, ...] = PARTS) -> Path:
    """Create empty files; beside a folder `model`, as in a version that was pulled, also the statement of its files."""
    folder.mkdir(parents=True)
    if folder.name == "model":
        (folder.parent / "files.json").touch()
    for name in parts:
        (folder / name).touch()
    return folder


def test_the_champion_precedes_sft_and_pretrain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make run"):
        choose_model(None, None, tmp_path)
    pretrain = touch_files(tmp_path / "data/pretrain")
    assert choose_model(None, None, tmp_path).folder == pretrain
    sft = touch_files(tmp_path / "data/sft")
    choice = choose_model(None, None, tmp_path)
    assert choice.folder == sft
    assert "no champion yet" in choice.reason
    champion = touch_files(tmp_path / "var/champion/model")
    (tmp_path / "var/champion/version.json").write_text('{"name": "minigpt", "version": "3", "alias": "champion"}')
    choice = choose_model(None, None, tmp_path)
    assert (choice.folder, choice.reason) == (champion, "minigpt version 3, champion of the registry")
    named = choose_model(Path("elsewhere"), None, tmp_path)
    assert (named.folder, named.reason) == (Path("elsewhere"), "named by --model")


@pytest.mark.parametrize("missing", PARTS)
def test_an_incomplete_champion_is_skipped_and_its_missing_part_named(tmp_path: Path, missing: str) -> None:
    touch_files(tmp_path / "var/champion/model", tuple(name for name in PARTS if name != missing))
    sft = touch_files(tmp_path / "data/sft")
    choice = choose_model(None, None, tmp_path)
    assert choice.folder == sft
    assert missing in choice.reason


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "\0"])
def test_a_champion_without_a_readable_version_is_chosen(tmp_path: Path, content: str | None) -> None:
    champion = touch_files(tmp_path / "var/champion/model")
    if content is not None:
        (tmp_path / "var/champion/version.json").write_text(content)
    assert choose_model(None, None, tmp_path).folder == champion


def test_a_dangling_link_is_no_champion(tmp_path: Path) -> None:
    gone = touch_files(tmp_path / "var/versions/1/model").parent
    (tmp_path / "var/champion").symlink_to(gone)
    assert choose_model(None, None, tmp_path).folder == tmp_path / "var/champion/model"
    shutil.rmtree(gone)
    touch_files(tmp_path / "data/sft")
    assert choose_model(None, None, tmp_path).folder == tmp_path / "data/sft"


def test_the_index_is_the_named_one_or_the_one_next_to_the_model(tmp_path: Path) -> None:
    for folder in ("var/champion/index", "data/index", "mine"):
        touch_files(tmp_path / folder, ("segment.json",))
    touch_files(tmp_path / "var/champion/model")
    sft = touch_files(tmp_path / "data/sft")
    assert choose_model(None, None, tmp_path).index == tmp_path / "var/champion/index"
    assert choose_model(sft, None, tmp_path).index == tmp_path / "data/index"
    assert choose_model(None, tmp_path / "mine", tmp_path).index == tmp_path / "mine"
    assert choose_model(touch_files(tmp_path / "alone/model"), None, tmp_path).index is None
    with pytest.raises(ValueError, match=r"--index .*/sft .*segment\.json"):
        choose_model(None, sft, tmp_path)


def test_the_vectors_are_those_beside_the_index(tmp_path: Path) -> None:
    touch_files(tmp_path / "var/champion/model")
    touch_files(tmp_path / "var/champion/index", ("segment.json",))
    assert choose_model(None, None, tmp_path).embed is None
    touch_files(tmp_path / "var/champion/embed", ("embed.json",))
    assert choose_model(None, None, tmp_path).embed == tmp_path / "var/champion/embed"
    mine = touch_files(tmp_path / "mine/index", ("segment.json",))
    assert choose_model(None, mine, tmp_path).embed is None


@pytest.mark.parametrize("is_named", [True, False])
def test_an_index_of_an_earlier_version_is_refused(tmp_path: Path, is_named: bool) -> None:
    touch_files(tmp_path / "var/champion/model")
    index = touch_files(tmp_path / "var/champion/index", ("passages.sqlite",))
    with pytest.raises(ValueError, match=r"earlier version; found passages\.sqlite.*make run.*registry pull"):
        choose_model(None, index if is_named else None, tmp_path)


def test_a_champion_in_the_previous_layout_is_refused(tmp_path: Path) -> None:
    touch_files(tmp_path / "var/champion")
    touch_files(tmp_path / "data/sft")
    with pytest.raises(ValueError, match=r"earlier version.*python -m pipeline\.registry pull"):
        choose_model(None, None, tmp_path)


def test_a_champion_that_does_not_state_its_files_is_refused(tmp_path: Path) -> None:
    touch_files(tmp_path / "var/champion/model")
    (tmp_path / "var/champion/files.json").unlink()
    touch_files(tmp_path / "data/sft")
    with pytest.raises(ValueError, match=r"does not state .*files\.json.*python -m pipeline\.registry pull"):
        choose_model(None, None, tmp_path)
