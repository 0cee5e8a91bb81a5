"""The naming law: a stage's one word is its module, params section, DVC stage, data folder, metrics file and test file."""

from __future__ import annotations

import itertools

import pytest

from pipeline.params import Params
from pipeline.stage import STAGES, input_names, load_stage
from tests.conftest import ROOT, read_yaml, stage_commands

FORBIDDEN = ("utils", "util", "common", "helpers", "helper", "misc", "core", "base")


def test_stages_params_and_graph_agree_in_order() -> None:
    graph = list(read_yaml(ROOT / "dvc.yaml")["stages"])
    sections = [name for name in Params.model_fields if name != "registry"]
    written = [name for name in read_yaml(ROOT / "params.yaml") if name != "registry"]
    assert graph == list(STAGES) == sections == written


@pytest.mark.parametrize("stage", STAGES)
def test_one_word_everywhere(stage: str) -> None:
    room, tests = ROOT / "pipeline" / stage, ROOT / "tests" / "pipeline"
    code = f"pipeline/{stage}" if room.is_dir() else f"pipeline/{stage}.py"
    assert (
        (room / "stage.py").is_file() and (room / "params.py").is_file() if room.is_dir() else (ROOT / code).is_file()
    )
    assert (tests / stage / "test_stage.py" if room.is_dir() else tests / f"test_{stage}.py").is_file()
    entry = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    assert entry["outs"] == [f"data/{stage}"]
    assert entry["metrics"] == [{f"data/metrics/{stage}.json": {"cache": False}}]
    assert code in entry["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_has_a_flag_for_each_input_and_no_other(stage: str) -> None:
    module = load_stage(stage)
    argv = stage_commands()[stage]
    flags = [word for word in argv if word.startswith("--")]
    assert argv[0] == stage
    assert flags == [*(f"--{name.replace('_', '-')}" for name in input_names(module.run)), "--out", "--metrics"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_input_is_a_dependency(stage: str) -> None:
    entry = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    argv = stage_commands()[stage]
    inputs = [
        word for flag, word in itertools.pairwise(argv) if flag.startswith("--") and flag not in ("--out", "--metrics")
    ]
    for path in inputs:
        assert any(dep == path or dep.startswith(path + "/") for dep in entry["deps"]), path


def test_no_file_has_a_name_that_says_nothing() -> None:
    for package in ("pipeline", "model", "flows", "assistant", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            assert path.stem not in FORBIDDEN, path
