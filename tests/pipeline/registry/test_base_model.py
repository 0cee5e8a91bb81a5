"""fetch: the model of a version as the base of a task recipe, the same bytes for the same version."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.frame.errors import UserError
from pipeline.registry.base_model import PARTS, fetch_model
from pipeline.registry.promotion import Version


class FakeStore:
    """Two versions, whose model is their number."""

    def read_aliases(self) -> dict[str, str]:
        return {"champion": "2", "candidate": "2"}

    def list_versions(self) -> list[Version]:
        return [Version(str(n), "run", {"files_sha256": f"sha-{n}"}, datetime.now(UTC)) for n in (1, 2)]

    def fetch(self, version: Version, folder: Path) -> None:
        write_model(folder / "model", version.number)


def write_model(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    for name in PARTS:
        (folder / name).write_text(text)
    return folder


@contextlib.contextmanager
def open_fake() -> Iterator[Any]:
    yield FakeStore()


def refuse_to_open() -> Any:
    raise AssertionError("a folder needs no registry")


def read_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_an_alias_and_its_number_give_the_same_files(tmp_path: Path) -> None:
    assert fetch_model("models:/minigpt@champion", tmp_path / "a", open_fake) == "version 2 of minigpt"
    fetch_model("models:/minigpt/2", tmp_path / "b", open_fake)
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")
    about = json.loads((tmp_path / "a/version.json").read_text())
    assert about == {"name": "minigpt", "version": "2", "files_sha256": "sha-2"}
    fetch_model("models:/minigpt/1", tmp_path / "a", open_fake)
    assert read_files(tmp_path / "a")["config.json"] == "1", "what fetch has written is replaced"


def test_a_model_folder_is_copied_without_a_registry(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "sft", "mine")
    fetch_model(str(folder), tmp_path / "out", refuse_to_open)
    assert read_files(tmp_path / "out")["model.safetensors"] == "mine"


@pytest.mark.parametrize(
    ("source", "what", "found"),
    [
        ("models:/minigpt@previous", "no version is previous", "champion = 2"),
        ("models:/minigpt/7", "version 7: not in the registry", "2 versions"),
        ("models:/other/1", "neither a version", "no such folder"),
        ("models:/minigpt", "neither a version", "no such folder"),
        (".", "neither a version", "no config.json"),
    ],
)
def test_what_is_no_model_is_refused(source: str, what: str, found: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(UserError) as caught:
        fetch_model(source, tmp_path / "out", open_fake)
    assert what in caught.value.what
    assert found in caught.value.found
    assert not (tmp_path / "out").exists()


def test_a_folder_that_fetch_has_not_written_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.md").write_text("mine")
    with pytest.raises(UserError, match="would be replaced"):
        fetch_model("models:/minigpt/1", tmp_path / "out", open_fake)
    assert (tmp_path / "out/thesis.md").read_text() == "mine"
