"""The prefer stage on a tiny model: a model's folder, curves, skills before and after; what can't be used is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.network.adapter_folder import load_adapted_model
from model.network.folder import load_model
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_stage_params
from pipeline.prefer.params import Prefer
from pipeline.prefer.reward_curve import draw_panels
from pipeline.prefer.stage import run
from tests.conftest import ROOT, read_yaml
from tests.pipeline.prefer.made_turns import write_inputs

DPO, GRPO = (
    read_yaml(ROOT / f"docs/recipes/prefer-{name}/params.yaml")["prefer"] | {"kinds": [], "n_heldout": 2}
    for name in ("dpo", "grpo")
)
DPO["pairs"] = {"source": "rules", "n_pairs": 20}
SHORT = {"total_steps": 2, "batch_rows": 2, "micro_rows": 1}


def make_params(values: dict[str, Any], **changes: Any) -> Prefer:
    params = check_stage_params(
        {"prefer": {**values, "training": {**values["training"], **SHORT}, **changes}}, "prefer"
    )
    assert isinstance(params, Prefer)
    return params


@pytest.fixture(autouse=True)
def _on_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_DEVICE", "cpu")


def run_stage(params: Prefer, folder: Path, pairs: Path | None = None) -> dict[str, Any]:
    base, conversations = write_inputs(folder)
    for name in ("scratch", "out"):
        (folder / name).mkdir(exist_ok=True)
    inputs = {"base": base, "conversations": conversations, "pairs": pairs}
    return dict(run(params, **inputs, scratch=folder / "scratch", out=folder / "out"))


LORA = {"kind": "lora", "rank": 1, "alpha": 2.0, "targets": ["query", "value", "down"]}
METHODS = {
    "dpo": make_params(DPO),
    "samples": make_params(DPO, pairs={"source": "samples", "n_pairs": 4, "n_samples": 2, "max_new_tokens": 16}),
    "simpo": make_params(DPO, method="simpo", beta=2.0, margin_nats=0.5),
    "orpo": make_params(DPO, method="orpo", sft_weight=0.0),
    "grpo": make_params(GRPO, groups={**GRPO["groups"], "n_samples": 3, "max_new_tokens": 16}),
}


@pytest.mark.parametrize("params", METHODS.values(), ids=METHODS)
def test_output_is_a_model_with_curves_and_skills(params: Prefer, tmp_path: Path) -> None:
    metrics = run_stage(params, tmp_path)
    _, _, about = load_model(tmp_path / "out")
    assert about["phase"] == "prefer"
    header = (tmp_path / "out/curve.csv").read_text().splitlines()[0]
    wanted = "reward_frac" if params.method == "grpo" else "chosen_gain_nats"
    assert wanted in header
    assert f"last_{wanted}" in metrics
    skills = json.loads((tmp_path / "out/skills.json").read_text())
    assert {"name", "before", "after", "is_fallen"} <= skills[0].keys()
    assert metrics["n_skills_fallen"] == sum(skill["is_fallen"] for skill in skills)
    assert wanted in (tmp_path / "out/curve.svg").read_text()


@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_an_adapter_can_be_what_is_trained(name: str, tmp_path: Path) -> None:
    values = METHODS[name].model_dump()
    metrics = run_stage(make_params(values, adapter=LORA), tmp_path)
    base, _, _ = load_model(tmp_path / "base")
    adapted, _, _ = load_adapted_model(tmp_path / "base", tmp_path / "out")
    changed = {key for key, value in adapted.state_dict().items() if not torch.equal(value, base.state_dict()[key])}
    assert changed <= {
        f"layers.0.{part}.weight" for part in ("attention.query", "attention.value", "feed_forward.down")
    }
    assert changed or name == "grpo"  # whose two rounds may have no spread
    assert metrics["steps"] == 2


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run_stage(METHODS["grpo"], tmp_path / name)
        texts.append([(tmp_path / name / "out" / file).read_bytes() for file in ("model.safetensors", "history.jsonl")])
    assert texts[0] == texts[1]


def test_pairs_from_files_and_what_is_too_long(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
        {"prompt": "x" * 900, "chosen": "y", "rejected": "z"},
    ]
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "3\n")
    params = make_params(DPO, pairs={"source": "files", "n_pairs": 10})
    metrics = run_stage(params, tmp_path, tmp_path / "pairs")
    assert (metrics["n_pairs"], metrics["n_rejected_too_long"], metrics["n_rejected_layout"]) == (1, 1, 1)
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert [(reject["line"], reject["reason"]) for reject in rejects] == [(3, "layout"), (2, "too_long")]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (make_params(DPO, kinds=["poems"]), "prefer.kinds"),
        (make_params(DPO, pairs={"source": "files", "n_pairs": 1}), "needs a folder"),
        (make_params(GRPO, groups={**GRPO["groups"], "max_new_tokens": 255}), "no prompt leaves room"),
    ],
)
def test_nothing_to_learn_from_is_an_error(params: Prefer, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_stage(params, tmp_path)
    assert caught.value.found
    assert caught.value.do


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "grpo"},
        {"beta": None},
        {"pairs": None},
        {"margin_nats": 1.0},
        {"method": "orpo", "sft_weight": 0.1},
        {"beta": 0.0},
        {"groups": GRPO["groups"]},
        {"training": {**DPO["training"], "spikes": {"max_robust_z": 8.0}}},
    ],
)
def test_settings_that_do_not_fit_the_method_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ParamError, match="prefer"):
        check_stage_params({"prefer": {**DPO, **changes}}, "prefer")


def test_curves_are_drawn_where_they_have_points() -> None:
    rows = [{"step": float(n), "a": n / 10} for n in range(1, 30)] + [{"step": 30.0, "a": 3.0, "b": 1.0}]
    svg = draw_panels(rows, {"one": ("a",), "none": ("b", "c")})
    assert svg.count("<polyline") == 2
    assert ">one<" in svg
    assert ">none<" not in svg
    assert svg == draw_panels(rows, {"one": ("a",), "none": ("b", "c")})
