"""pretrain.budget: one value instead of seven settings."""

from __future__ import annotations

from typing import Any

import pytest

from model.network.config import ModelConfig
from pipeline.frame.errors import ParamError
from pipeline.launch import read_batch_rows
from pipeline.params import check_params, load_params
from pipeline.plan import Device, complete_training, make_plan
from pipeline.pretrain.params import Pretrain
from tests.conftest import ROOT, read_yaml

OPEN = ("total_steps", "batch_rows", "matrix_lr", "embedding_lr", "head_lr", "norm_lr", "eval_every")


def make_params(budget: dict[str, Any] | None, *, without: tuple[str, ...] = OPEN) -> Pretrain:
    values = read_yaml(ROOT / "params.yaml")
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
    assert training.embedding_lr == pytest.approx(tuned.embedding_lr, rel=0.25)


def test_given_settings_are_kept() -> None:
    section = make_params({"minutes": 3.0, "tokens_per_second": 24_000.0}, without=("total_steps", "matrix_lr"))
    training = complete_training(section, make_config(section))
    assert (training.batch_rows, training.embedding_lr, training.eval_every) == (4, 0.03, 250)
    assert training.total_steps == round(3 * 60 * 24_000 / (4 * section.model.seq_len))


def test_plan_uses_the_budget() -> None:
    values = read_yaml(ROOT / "params.yaml")
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


def test_processes_divide_a_derived_batch(tmp_path: Any) -> None:
    text = (ROOT / "params.yaml").read_text().replace("    total_steps: 1000\n    batch_rows: 4\n", "", 1)
    (tmp_path / "params.yaml").write_text(text.replace("  budget: null", "  budget: {tokens: 9000000}", 1))
    rows = read_batch_rows(["pretrain", "--params", str(tmp_path / "params.yaml")])
    section = load_params(tmp_path / "params.yaml").pretrain
    assert complete_training(section, make_config(section)).batch_rows % rows == 0
