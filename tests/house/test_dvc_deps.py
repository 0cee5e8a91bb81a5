"""DVC does not follow Python imports: each stage must list what it really imports, no more and no less."""

from __future__ import annotations

import grimp
import pytest

from pipeline.stage import STAGES
from tests.conftest import ROOT, read_yaml

# The frame runs stages and changes no byte of what they make: tests/contract/ shows it.
FRAME = {
    "pipeline",
    "pipeline.frame",
    "pipeline.frame.settings",
    "pipeline.stage",
    "pipeline.params",
    "pipeline.params.sources",
    "pipeline.params.text",
    "pipeline.params.training",
    "pipeline.errors",
    "pipeline.progress",
    "pipeline.frame.lifetime",
    "pipeline.frame.locks",
    "pipeline.workers",
    "pipeline.workers.files",
    "pipeline.workers.map",
    "pipeline.text",
    "model",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "model", cache_dir=None)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_graph(stage: str, graph: grimp.ImportGraph) -> None:
    room = graph.find_descendants(f"pipeline.{stage}")  # a stage is a module or a room, which is listed whole
    module = f"pipeline.{stage}.stage" if room else f"pipeline.{stage}"
    needed = {
        f"{name.replace('.', '/')}.py" for name in {f"pipeline.{stage}", *room, *reachable(graph, module)} - FRAME
    }
    deps = [dep for dep in read_yaml(ROOT / "dvc.yaml")["stages"][stage]["deps"] if not dep.startswith("data/")]
    listed: set[str] = set()
    for dep in deps:
        path = ROOT / dep
        listed |= {str(file.relative_to(ROOT)) for file in path.rglob("*.py")} if path.is_dir() else {dep}
    needed = {name if (ROOT / name).is_file() else name.replace(".py", "/__init__.py") for name in needed}
    assert listed - {"requirements.lock"} == needed


def reachable(graph: grimp.ImportGraph, module: str) -> set[str]:
    """What a module imports, directly or through others, without walking through the frame."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in graph.find_modules_directly_imported_by(waiting.pop()):
            if name not in found and name not in FRAME:
                found.add(name)
                waiting.append(name)
    return found
