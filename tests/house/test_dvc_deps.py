"""Each stage in dvc.yaml lists exactly the rooms that its code imports, because DVC does not follow Python imports.

A room is a folder directly below pipeline/, model/ or assistant/. The frame around the stages (its own room, pipeline/run.py and
params.py) changes no byte of their output, as tests/contract/ shows, and is not listed.
"""

from __future__ import annotations

import grimp
import pytest

from pipeline.params import STAGES
from tests.conftest import ROOT, read_yaml

FRAME = {"pipeline", "model", "assistant", "pipeline.frame", "pipeline.run", "pipeline.params"}
NO_CODE = ("data/", "requirements.lock")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "model", "assistant", cache_dir=None)


def get_room(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("stage", STAGES)
def test_rooms_listed_are_the_rooms_imported(stage: str, graph: grimp.ImportGraph) -> None:
    reached = sorted(room.replace(".", "/") for room in find_rooms(graph, f"pipeline.{stage}.stage"))
    deps = read_yaml(ROOT / "dvc.yaml")["stages"][stage]["deps"]
    listed = [dep for dep in deps if not dep.startswith(NO_CODE)]
    assert listed == reached, "expected deps:\n" + "\n".join(f"      - {room}" for room in reached)


def find_rooms(graph: grimp.ImportGraph, module: str) -> set[str]:
    """Return the rooms of all modules that `module` imports, directly or through others, and its own."""
    seen, waiting = {module}, [module]
    while waiting:
        for name in graph.find_modules_directly_imported_by(waiting.pop()):
            if name not in seen and get_room(name) not in FRAME:
                seen.add(name)
                waiting.append(name)
    return {get_room(name) for name in seen} - FRAME
