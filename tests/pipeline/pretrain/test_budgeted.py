"""pretrain.budget: one value instead of seven settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from model.network.config import ModelConfig
from pipeline.frame.errors import ParamError
from pipeline.launch import read_batch_rows
from pipeline.params import check_params, load_params
from pipeline.plan import Device, complete_training, make_plan
from pipeline.pretrain.budgeted import list_stages
from pipeline.pretrain.params import Growth, Pretrain
from tests.conftest import ROOT, read_yaml

OPEN = ("total_steps", "batch_rows", "matrix_lr", "embedding_lr", "head_lr", "norm_lr", "eval_every")


def make_params(
    budget: dict[str, Any] | None, *, without: tuple[str, ...] = OPEN, growth: Sequence[dict[str, Any]] = ()
) -> Pretrain:
    values = read_yaml(ROOT / "params.yaml")
    values["pretrain"]["data"]["growth"] = [*growth]  # batches of other sizes need their number, not a budget
    for name in without:
        del values["pretrain"]["training"][name]
    values["pretrain"]["budget"] = budget
    return check_params(values).pretrain


def make_config(section: Pretrain) -> ModelConfig:
    return ModelConfig(vocab_size=4096, **section.model.model_dump())


def test_without_a_budget_nothing_changes() -> None:
    section = load_params(ROOT / "params.yaml").pretrain
    assert complete_training(section, make_config(section)).model_dump() == section.training.model_dump()


def test_budget_alone_determines_all_settings() -> None:
    section = make_params({"tokens": 4_608_000})
    training = complete_training(section, make_config(section))
    assert training.total_steps * training.batch_rows * section.model.seq_len == pytest.approx(4_608_000, rel=0.01)
    tuned = load_params(ROOT / "params.yaml").pretrain.training
    assert training.matrix_lr == pytest.approx(tuned.matrix_lr, rel=0.25)
    assert training.embedding_lr == training.head_lr == pytest.approx(6 * training.matrix_lr, rel=0.01)


def test_given_settings_are_kept() -> None:
    section = make_params({"minutes": 3.0, "tokens_per_second": 24_000.0}, without=("total_steps", "matrix_lr"))
    training = complete_training(section, make_config(section))
    kept = load_params(ROOT / "params.yaml").pretrain.training
    assert (training.batch_rows, training.embedding_lr) == (kept.batch_rows, kept.embedding_lr)
    assert training.eval_every == kept.eval_every
    assert training.total_steps == round(3 * 60 * 24_000 / (4 * section.model.seq_len))


def test_plan_uses_the_budget() -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["pretrain"]["data"]["growth"] = []
    values["pretrain"]["budget"] = {"tokens_per_parameter": 20}
    del values["pretrain"]["training"]["total_steps"]
    plan = make_plan(check_params(values), Device(name="one", tflops=1.0, memory_gb=8.0, mfu=0.5), 1)
    assert plan["phases"]["pretrain"]["tokens_per_parameter"] == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
    ("budget", "without", "message"),
    [
        (None, ("total_steps",), "training.total_steps: missing"),
        ({"tokens": 10, "flops": 1e15}, OPEN, "exactly one"),
        ({"minutes": 5.0}, OPEN, "belong together"),
        ({"tokens": 10_000}, (), "leave nothing for budget"),
        ({"tokens": 0}, OPEN, "pretrain.budget.tokens"),
    ],
)
def test_inconsistent_budgets_are_rejected(
    budget: dict[str, Any] | None, without: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ParamError, match=message):
        make_params(budget, without=without)


def read_rows(values: Any, folder: Path) -> int:
    """Return the rows that processes share with these params."""
    (folder / "params.yaml").write_text(json.dumps({"pretrain": values["pretrain"]}))
    return read_batch_rows(["pretrain", "--params", str(folder / "params.yaml")])


def test_processes_divide_a_derived_batch(tmp_path: Path) -> None:
    values = read_yaml(ROOT / "params.yaml")
    for name in ("total_steps", "batch_rows"):
        del values["pretrain"]["training"][name]
    values["pretrain"]["budget"] = {"tokens": 9_000_000}
    values["pretrain"]["data"]["growth"] = [{"until_frac": 0.5, "row_tokens": 384}]
    section = check_params(values).pretrain
    assert complete_training(section, make_config(section)).batch_rows % read_rows(values, tmp_path) == 0


def test_processes_divide_the_pieces_of_every_part(tmp_path: Path) -> None:
    """Eight pieces of two rows, twelve of four, four rows: four processes. Two whole rows: two."""
    values = read_yaml(ROOT / "params.yaml")
    assert read_rows(values, tmp_path) == 4
    values["pretrain"]["data"]["growth"] = [{"until_frac": 0.5, "batch_rows": 2}]
    assert read_rows(values, tmp_path) == 2


def test_parts_of_a_run_follow_each_other() -> None:
    parts = [Growth(until_frac=0.5, batch_rows=2, row_tokens=288), Growth(until_frac=0.8, row_tokens=384)]
    sizes = {"seq_len": 1152, "n_steps": 11, "batch_rows": 4}
    assert list_stages(parts, **sizes) == [(6, 2, 288), (3, 4, 384), (2, 4, 1152)]
    assert list_stages([], **sizes) == [(11, 4, 1152)]


@pytest.mark.parametrize(
    ("growth", "message"),
    [
        ([{"until_frac": 0.5, "row_tokens": 200}], r"growth.0.row_tokens \(200\) must divide model.seq_len"),
        ([{"until_frac": 0.5}, {"until_frac": 0.5}], r"until_frac must rise from part to part, got \[0.5, 0.5\]"),
        ([{"until_frac": 0.0}], "until_frac"),
        ([{"until_frac": 0.5, "rows": 2}], "rows"),
    ],
)
def test_growth_that_makes_no_sense_is_refused(growth: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ParamError, match=message):
        make_params(None, without=(), growth=growth)


def test_smaller_batches_and_a_budget_are_refused() -> None:
    with pytest.raises(ParamError, match=r"growth.0.batch_rows changes what a budget buys"):
        make_params({"tokens": 9_000_000}, growth=[{"until_frac": 0.5, "batch_rows": 2}])
