"""The order of the stages is that of dvc.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.steps.graph import GraphError, read_graph
from pipeline.params import STAGES
from tests.conftest import ROOT


def write(folder: Path, text: str) -> Path:
    (folder / "dvc.yaml").write_text(text)
    return folder / "dvc.yaml"


def test_our_own_graph_has_every_stage_after_what_it_needs() -> None:
    graph = read_graph(ROOT / "dvc.yaml")
    assert set(graph) == set(STAGES)
    done: set[str] = set()
    for stage, needs in graph.items():
        assert needs <= done
        done.add(stage)
    assert graph["download"] == set()
    assert {"pretrain", "sft", "filter"} <= graph["evaluate"]


def test_files_below_an_output_and_folders_above_one_count(tmp_path: Path) -> None:
    text = """
stages:
  c: {cmd: c, deps: [out/a/file, metrics], outs: [c]}
  b: {cmd: b, outs: [{b: {cache: false}}], metrics: [metrics/b.json: {cache: false}]}
  a: {cmd: a, deps: [code.py], outs: [out/a]}
"""
    graph = read_graph(write(tmp_path, text))
    assert list(graph)[-1] == "c"
    assert graph == {"a": set(), "b": set(), "c": {"a", "b"}}


def test_names_that_only_begin_alike_do_not_count(tmp_path: Path) -> None:
    graph = read_graph(write(tmp_path, "stages:\n  a: {cmd: a, outs: [out]}\n  b: {cmd: b, deps: [out2/x]}\n"))
    assert graph["b"] == set()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stages:\n  a: {cmd: a, outs: [x], deps: [y]}\n  b: {cmd: b, outs: [y], deps: [x]}\n", "a circle of stages"),
        ("stages: [", "not a DVC pipeline"),
        ("vars: 1", "not a DVC pipeline"),
    ],
)
def test_a_broken_graph_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        read_graph(write(tmp_path, text))


def test_no_graph_at_all(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="no such file"):
        read_graph(tmp_path / "dvc.yaml")
