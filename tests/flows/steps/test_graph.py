"""The order of the stages is read from dvc.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.steps.graph import GraphError, read_graph
from pipeline.params import STAGES
from tests.conftest import ROOT


def write(folder: Path, text: str) -> Path:
    (folder / "dvc.yaml").write_text(text)
    return folder / "dvc.yaml"


def test_the_order_of_this_repository_is_topological() -> None:
    graph = read_graph(ROOT / "dvc.yaml")
    assert set(graph) == set(STAGES)
    earlier: set[str] = set()
    for stage, needs in graph.items():
        assert needs <= earlier
        earlier.add(stage)
    assert graph["download"] == set()
    assert {"pretrain", "sft", "shard"} <= graph["evaluate"]


def test_files_below_an_output_and_folders_above_it_are_dependencies(tmp_path: Path) -> None:
    text = """
stages:
  c: {cmd: c, deps: [out/a/file, metrics], outs: [c]}
  b: {cmd: b, outs: [{b: {cache: false}}], metrics: [metrics/b.json: {cache: false}]}
  a: {cmd: a, deps: [code.py], outs: [out/a]}
"""
    graph = read_graph(write(tmp_path, text))
    assert list(graph)[-1] == "c"
    assert graph == {"a": set(), "b": set(), "c": {"a", "b"}}


def test_paths_with_a_common_prefix_are_not_dependencies(tmp_path: Path) -> None:
    graph = read_graph(write(tmp_path, "stages:\n  a: {cmd: a, outs: [out]}\n  b: {cmd: b, deps: [out2/x]}\n"))
    assert graph["b"] == set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages:\n  a: {cmd: a, outs: [x], deps: [y]}\n  b: {cmd: b, outs: [y], deps: [x]}\n", "a cycle of stages"),
        ("stages: [", "not a DVC pipeline"),
        ("vars: 1", "not a DVC pipeline"),
    ],
)
def test_an_invalid_graph_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        read_graph(write(tmp_path, text))


def test_a_missing_graph_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no such file"):
        read_graph(tmp_path / "dvc.yaml")
