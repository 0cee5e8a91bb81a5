"""Names are consistent: one word for a stage everywhere, one stem for one file, one name for one class."""

from __future__ import annotations

import ast
import importlib
import itertools
from collections import defaultdict
from pathlib import Path

import pytest

from pipeline.params import OPTIONAL_STAGES, STAGES, Params
from pipeline.run import list_inputs
from tests.conftest import ROOT, read_yaml, stage_commands

PACKAGES = ("pipeline", "model", "flows", "assistant", "service")
FORBIDDEN = ("utils", "util", "common", "helpers", "helper", "misc", "core", "base")
SAME_IN_EVERY_ROOM = ("__init__", "__main__", "stage", "params")
MAX_FILES = 15


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def test_stages_params_graph_and_rooms_agree() -> None:
    graph = list(read_yaml(ROOT / "dvc.yaml")["stages"])
    written = [name for name in read_yaml(ROOT / "params.yaml") if name != "registry"]
    rooms = {path.parent.name for path in (ROOT / "pipeline").glob("*/stage.py")}
    assert graph == list(STAGES) == written
    assert set(Params.model_fields) - {"registry"} == rooms == {*graph, *OPTIONAL_STAGES}


@pytest.mark.parametrize("stage", [*STAGES, *OPTIONAL_STAGES])
def test_every_stage_has_settings_and_tests(stage: str) -> None:
    assert (ROOT / "pipeline" / stage / "params.py").is_file()
    assert (ROOT / "tests" / "pipeline" / stage / "test_stage.py").is_file()


@pytest.mark.parametrize("stage", STAGES)
def test_one_word_names_a_stage_everywhere(stage: str) -> None:
    entry = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    # The metrics file is no `metrics:` entry: dvc.yaml declares the dozen that people compare (tests/pipeline/evaluate).
    assert entry["outs"] == [f"data/{stage}", {f"data/metrics/{stage}.json": {"cache": False}}]


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_has_a_flag_for_each_input_and_no_other(stage: str) -> None:
    module = importlib.import_module(f"pipeline.{stage}.stage")
    argv = stage_commands()[stage]
    flags = [word for word in argv if word.startswith("--")]
    assert argv[0] == stage
    assert flags == [*(f"--{name.replace('_', '-')}" for name in list_inputs(module.run)), "--out", "--metrics"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_input_is_a_dependency(stage: str) -> None:
    entry = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    argv = stage_commands()[stage]
    inputs = [
        word for flag, word in itertools.pairwise(argv) if flag.startswith("--") and flag not in ("--out", "--metrics")
    ]
    for path in inputs:
        assert any(dep == path or dep.startswith(path + "/") for dep in entry["deps"]), path


def test_no_file_has_a_meaningless_name() -> None:
    for path in sources(*PACKAGES, "benchmarks"):
        assert path.stem not in FORBIDDEN, path


def test_no_file_stem_exists_twice() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources(*PACKAGES):
        if path.stem not in SAME_IN_EVERY_ROOM:
            places[path.stem].append(str(path.relative_to(ROOT)))
    assert not {stem: paths for stem, paths in places.items() if len(paths) > 1}


def test_no_public_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources(*PACKAGES):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_folder_holds_too_many_files() -> None:
    for folder in {path.parent for path in sources(*PACKAGES, "benchmarks")}:
        assert len(list(folder.glob("*.py"))) <= MAX_FILES + 1, folder  # and its __init__.py
