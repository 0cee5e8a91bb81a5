"""Every recipe is a complete, valid params.yaml that can be planned for the devices that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.params import check_params, load_params
from pipeline.plan import Device, make_device, make_plan
from tests.conftest import ROOT, read_yaml

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *RECIPES], ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    load_params(path)


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *RECIPES], ids=lambda path: path.stem)
def test_a_recipe_can_be_planned(path: Path) -> None:
    """Plan for the devices that a comment in the recipe names, or else for a small one."""
    command = re.search(
        r"pipeline\.launch plan --recipe ([\w.-]+) --device (\w+)(?: --devices (\d+))?$", path.read_text(), re.MULTILINE
    )
    if command:
        assert command[1] == path.stem
        device, n_devices = make_device(command[2], 1), int(command[3] or 1)
    else:
        device, n_devices = Device(name="small", tflops=0.5, memory_gb=8.0, mfu=0.5, is_cuda=False), 1
    plan = make_plan(load_params(path), device, n_devices)
    assert plan["fits"]
    size = re.fullmatch(r"(?:.*-)?(\d+(?:\.\d+)?)([mb])", path.stem)
    if size:  # the name contains the size of the model
        assert plan["n_params"] == pytest.approx(float(size[1]) * {"m": 1e6, "b": 1e9}[size[2]], rel=0.08)
        tokens = plan["phases"]["pretrain"]["tokens"]
        assert tokens == pytest.approx(plan["compute_optimal_tokens"], rel=0.01)


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("matrix_lr: 0.02", "matrix_lr: 2e-2"))
    assert load_params(tmp_path / "params.yaml") == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"dedupe": {"min_jacard": 0.5}}, "dedupe.min_jacard"),
        ({"shard": {"val_frac": 0.9}}, "shard.val_frac"),
        ({"pretrain": {"model": {"n_kv_head": 2}}}, "pretrain.model"),
        ({"pretrain": {"training": {"total_steps": "many"}}}, "pretrain.training.total_steps"),
        ({"filter": {"gopher_quality": {"min_words": -1}}}, "filter.gopher_quality.min_words"),
        ({"download": {"sources": []}}, "download.sources"),
    ],
)
def test_a_wrong_setting_is_reported_by_its_dotted_name(change: dict[str, object], name: str) -> None:
    values = read_yaml(ROOT / "params.yaml")

    def merge(into: dict[str, object], what: dict[str, object]) -> None:
        for key, value in what.items():
            if isinstance(value, dict):
                merge(into[key], value)  # pyright: ignore
            else:
                into[key] = value

    merge(values, change)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        check_params(values)
