"""The search space: invalid settings are reported before any trial, and params change only in its values."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pipeline.frame.errors import ParamError, UserError
from pipeline.frame.settings import read_yaml
from pipeline.params import check_params
from pipeline.sweep.space import (
    Sweep,
    check_sweep,
    count_trials,
    find_baseline,
    get_value,
    load_sweep,
    make_grid,
    round_values,
    set_values,
)
from tests.conftest import ROOT

PARAMS: dict[str, Any] = read_yaml(ROOT / "params.yaml")
RATE = "pretrain.training.matrix_lr"
ROWS = "pretrain.training.batch_rows"


def make_space(**changed: Any) -> Sweep:
    return Sweep.model_validate({"space": {RATE: {"low": 0.001, "high": 0.1, "log": True}, ROWS: [4, 12]}} | changed)


def test_example_is_valid_and_starts_from_params_yaml() -> None:
    search = load_sweep(ROOT / "docs/sweep.yaml")
    params = check_sweep(search, PARAMS, Path("params.yaml"))
    assert params.pretrain.budget is not None
    first = find_baseline(search, PARAMS)
    assert first is not None
    assert check_params(set_values(PARAMS, first)) == check_params(PARAMS)


def test_values_are_set_in_a_copy() -> None:
    before = copy.deepcopy(PARAMS)
    changed = set_values(PARAMS, {RATE: 0.5, "pretrain.budget.tokens": 7, "pretrain.training.total_steps": None})
    assert before == PARAMS
    assert get_value(changed, RATE) == 0.5
    assert get_value(changed, "pretrain.budget") == {"tokens": 7}
    assert get_value(changed, "pretrain.nowhere.at.all") is None
    assert {name for name in PARAMS if changed[name] != PARAMS[name]} == {"pretrain"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": {}}, "at least 1 item"),
        ({"space": {"shard.seed": [1, 2]}}, "only settings under pretrain"),
        ({"space": {RATE: {"low": 0.1, "high": 0.01}}}, "low must be less"),
        ({"space": {RATE: {"low": 0.0, "high": 0.01, "log": True}}}, "above 0"),
        ({"set": {RATE: 0.1}}, "remove one"),
        ({"sampler": "grid"}, "lists of choices"),
        ({"trails": 3}, "unknown setting"),
    ],
)
def test_invalid_space_is_rejected(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    import json

    path = tmp_path / "space.yaml"
    path.write_text(json.dumps({"space": {RATE: {"low": 0.001, "high": 0.1}}} | changed))
    with pytest.raises(ParamError, match=message):
        load_sweep(path)
    with pytest.raises(UserError, match="no such file"):
        load_sweep(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("pretrain.training.matrx_lr", [0.1]),
        (RATE, {"low": 0.5, "high": 2.0}),
        ("pretrain.model.n_layer", [2, 0]),
        ("pretrain.model.n_layer", [2, "three"]),
    ],
)
def test_invalid_setting_is_reported_before_any_trial(name: str, of: Any) -> None:
    search = Sweep.model_validate({"space": {name: of, ROWS: [4]}})
    with pytest.raises(ParamError, match=name):
        check_sweep(search, PARAMS, Path("params.yaml"))


def test_grid_has_every_combination() -> None:
    search = make_space(space={ROWS: [4, 12], "pretrain.model.n_layer": [2, 3, 4]}, sampler="grid")
    combinations = [tuple(values.values()) for values in make_grid(search)]
    assert combinations == [(4, 2), (4, 3), (4, 4), (12, 2), (12, 3), (12, 4)]
    assert count_trials(search) == 6
    assert count_trials(search.model_copy(update={"trials": 4})) == 4
    assert count_trials(make_space()) == 20


def test_baseline_exists_if_the_space_contains_it() -> None:
    assert find_baseline(make_space(), PARAMS) == {RATE: get_value(PARAMS, RATE), ROWS: 4}
    assert find_baseline(make_space(space={RATE: [0.1]}), PARAMS) is None
    assert find_baseline(make_space(space={ROWS: {"low": 5, "high": 11}}), PARAMS) is None


def test_only_floats_are_rounded() -> None:
    assert round_values({"a": 0.012345, "b": 123456, "c": None, "d": "x", "e": True}) == {
        "a": 0.0123,
        "b": 123456,
        "c": None,
        "d": "x",
        "e": True,
    }
