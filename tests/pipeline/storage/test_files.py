"""A stage reads only below its input folders: a path that leads out is refused, a missing file is named."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import grimp
import pytest

from pipeline.filter import stage
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params
from pipeline.run import make_run_key
from pipeline.storage.files import find_below
from tests.conftest import ROOT, read_yaml

SIDE = {"sources": ["a/"]}


def make_params(path: str, setting: str) -> dict[str, Any]:
    """Return params.yaml with the setting `setting` set to `path`."""
    values = read_yaml(ROOT / "params.yaml")
    match setting:
        case "decontamination.sets.0.path":
            values["filter"]["decontamination"] = {"sets": [{"name": "quiz", "path": path}]}
        case "language.model.path":
            values["filter"]["language"]["model"] = {"path": path, "sha256": "0" * 64}
        case _:
            examples = {"positives": SIDE, "negatives": {"files": [{"path": path}]}, "keep_frac": 0.5}
            values["filter"]["quality_classifier"] = examples
    return values


@pytest.mark.parametrize(
    "setting", ["decontamination.sets.0.path", "language.model.path", "quality_classifier.negatives.files.0.path"]
)
@pytest.mark.parametrize("path", ["/etc/a.txt", "../a.txt", "a/../../b.txt", "https://example.org/a.txt", "zip::a.zip"])
def test_a_path_that_leaves_the_input_folder_is_refused_by_name(setting: str, path: str) -> None:
    with pytest.raises(ParamError, match=f"filter.{setting}") as caught:
        check_params(make_params(path, setting))
    assert repr(path) in str(caught.value)
    check_params(make_params("folder/*.txt", setting))


def test_a_link_to_a_folder_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="x: leads out of"):
        find_below(tmp_path / "in", "linked/a.txt", "x")
    (tmp_path / "in" / "b.txt").symlink_to(tmp_path / "elsewhere" / "a.txt")  # as DVC's cache links files
    assert [file.name for file in find_below(tmp_path / "in", "*.txt", "x")] == ["b.txt"]


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=r"x: no such file(.|\n)*none\.jsonl"):
        find_below(tmp_path, "none.jsonl", "x")
    with pytest.raises(UserError, match=r"x: this kind of file can't be read(.|\n)*a\.pdf"):
        find_below(tmp_path, ".", "x")


@pytest.mark.parametrize("flag", ["sets", "examples"])
def test_a_changed_input_file_changes_the_run_key_of_filter(flag: str, tmp_path: Path) -> None:
    entry = read_yaml(ROOT / "dvc.yaml")["stages"]["filter"]
    folder = dict(zip(entry["cmd"].split(), entry["cmd"].split()[1:], strict=False))[f"--{flag}"]
    assert folder in entry["deps"], "DVC tracks it too"
    module: ModuleType = stage
    file = tmp_path / "nested" / "bad.jsonl"
    file.parent.mkdir()
    file.write_text('{"text": "one"}\n')
    key = make_run_key(module, "{}", {flag: tmp_path})
    assert make_run_key(module, "{}", {flag: tmp_path}) == key
    file.write_text('{"text": "two"}\n')
    assert make_run_key(module, "{}", {flag: tmp_path}) != key


def test_filter_imports_no_reader_of_download() -> None:
    graph = grimp.build_graph("pipeline", cache_dir=None)
    reached = graph.find_upstream_modules("pipeline.filter", as_package=True)
    assert "pipeline.storage.files" in reached
    assert not {name for name in reached if name.startswith("pipeline.download")}
