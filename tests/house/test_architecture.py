"""The diagram of the stages in README.md and docs/architecture.md is the one that dvc.yaml gives, and every guide is indexed."""

from __future__ import annotations

import importlib.util
import re

import pytest

from pipeline.params import STAGES
from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("diagram", ROOT / "docs" / "diagram.py")
assert SPEC is not None
assert SPEC.loader is not None
diagram = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(diagram)


@pytest.mark.parametrize("page", diagram.PAGES)
def test_the_diagram_is_up_to_date(page: str) -> None:
    """If not: `python docs/diagram.py`."""
    blocks = diagram.BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks == [diagram.draw()]


def test_every_stage_is_in_the_diagram_and_no_arrow_is_implied_by_others() -> None:
    edges = diagram.drop_implied(diagram.read_edges(ROOT / "dvc.yaml"))
    assert {name for edge in edges for name in edge} == set(STAGES)
    assert ("download", "dedupe") in edges
    assert diagram.drop_implied([("a", "b"), ("b", "c"), ("a", "c")]) == [("a", "b"), ("b", "c")]


def test_the_index_lists_every_guide() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w./-]+?)/?\)", text))
    guides = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert guides <= linked
    for target in linked:
        assert (ROOT / "docs" / target).exists(), target


def test_the_architecture_page_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in ("pipeline", "model", "assistant", "service", "flows"):
        for room in (ROOT / package).iterdir():
            if (room / "__init__.py").exists():
                assert f"`{room.name}/`" in text or f"`{package}/{room.name}/`" in text, room
