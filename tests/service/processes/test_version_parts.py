"""A version is swapped whole: with a damaged part, or without the documents that were there, nothing of it is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.inference.model_choice import choose_model
from service.access.tenant_files import TenantFiles
from service.answers.assistants import Assistants
from service.inference.local_inference import LocalInference
from service.processes.version_parts import follow_swaps
from tests.assistant.conftest import write_index


def make_version(folder: Path) -> Any:
    return SimpleNamespace(folder=folder, description=folder.parent.name, retire=lambda: None, close=lambda: None)


def damage_nothing(version: Path) -> None:
    pass


def damage_guard(version: Path) -> None:
    (version / "guard").mkdir()
    (version / "guard" / "guard.json").write_text("{")


def damage_index(version: Path) -> None:
    next((version / "index").glob("*.arrow")).write_bytes(b"damaged")


def remove_index(version: Path) -> None:
    (version / "index" / "segment.json").unlink()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (damage_nothing, None),
        (damage_guard, "not a readable guard"),
        (damage_index, "index"),
        (remove_index, "has no index"),
    ],
)
def test_a_version_is_taken_whole_or_not_at_all(
    tmp_path: Path, damage: Callable[[Path], None], found: str | None
) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name / "model").mkdir(parents=True)
        write_index(tmp_path / name / "index", [(f"{name}.sum", "(a)", "Sum of array elements.")])
    damage(tmp_path / "v2")
    inference = LocalInference(make_version(tmp_path / "v1/model"), make_version, 1.0)
    choice = choose_model(tmp_path / "v1/model", None, Path())
    assistants = Assistants(inference, choice, TenantFiles(tmp_path / "state"))
    content: Any = SimpleNamespace(guard="of v1")
    extras: dict[str, Any] = {"vectors": "of v1"}
    described: list[Any] = []
    follow_swaps(inference, assistants, content, extras, described.append)

    if found is None:
        inference.swap(tmp_path / "v2/model")
    else:
        with pytest.raises(ValueError, match=found):
            inference.swap(tmp_path / "v2/model")
    version = "v2" if found is None else "v1"
    assert inference.description == version
    assert (content.guard, extras["vectors"]) == ((None, None) if found is None else ("of v1", "of v1"))
    assert described == ([version] if found is None else [])
    documents = assistants.get_tools("acme", "", None).documents
    assert documents is not None
    assert f"{version}.sum" in documents.search("sum").text
