"""Every recipe is a complete, valid params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.params import check_params, load_params
from tests.conftest import ROOT, read_yaml

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *RECIPES], ids=lambda path: path.stem)
def test_validates(path: Path) -> None:
    load_params(path)


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
def test_a_wrong_setting_is_named_with_its_dots(change: dict[str, object], name: str) -> None:
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
