"""The sft stage with an adapter: what is written is the adapter of exactly this base, the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.network.adapter_folder import CONFIG, STATEMENT, WEIGHTS, load_adapter
from model.network.config import ModelConfig
from model.network.folder import load_model, save_model
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import train_bpe
from pipeline.domain.params import Domain
from pipeline.domain.stage import run as run_domain
from pipeline.frame.settings import check_section
from pipeline.sft.params import Sft
from pipeline.sft.stage import run
from tests.conftest import ROOT, read_yaml

TEXTS = [f"Soup number {n} was {label}." for n, label in enumerate(["good", "bad"] * 6)]


def make_params(**adapter: Any) -> Sft:
    """Return the settings of a recipe, for three small steps."""
    values = read_yaml(ROOT / "docs/recipes/sentiment/params.yaml")["sft"]
    values["training"] |= {"total_steps": 3, "batch_rows": 1, "eval_every": 3}
    values["adapter"] |= {"rank": 2, **adapter}
    return check_section(Sft, values, "params.yaml", prefix="sft.")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapted")
    tokenizer = train_bpe(TEXTS * 4, 320)
    sizes = {"n_layer": 1, "n_head": 2, "n_kv_head": 1, "d_model": 32, "d_head": 16, "d_ff": 64}
    config = ModelConfig(vocab_size=tokenizer.vocab_size, seq_len=96, **sizes)
    model = Transformer(config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():  # some start as zeros, through which DoRA passes no gradient
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(2))
    save_model(root / "base", model, tokenizer, phase="sft")
    (root / "items").mkdir()
    for name, part in (("train", TEXTS[:8]), ("heldout", TEXTS[8:])):
        rows = [json.dumps({"text": text, "label": text.split()[-1].strip(".")}) for text in part]
        (root / f"items/{name}.jsonl").write_text("\n".join(rows))
    (root / "domain").mkdir()
    run_domain(Domain(wordings=["Good or bad? {text}"], reply="{label}"), items=root / "items", out=root / "domain")
    return root


def tune(folders: Path, params: Sft, out: Path) -> dict[str, Any]:
    for name in ("scratch", "out"):
        (out / name).mkdir(parents=True)
    return run(
        params, base=folders / "base", conversations=folders / "domain", scratch=out / "scratch", out=out / "out"
    )


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_output_is_an_adapter_of_this_base_with_its_history(
    kind: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_COMPILE", "0")
    metrics = tune(folders, make_params(kind=kind), tmp_path / "one")
    tune(folders, make_params(kind=kind), tmp_path / "two")
    files = {path.name for path in (tmp_path / "one/out").iterdir()}
    assert files == {WEIGHTS, CONFIG, STATEMENT, "history.jsonl"}, "no copy of the base"
    for name in files:
        assert (tmp_path / "one/out" / name).read_bytes() == (tmp_path / "two/out" / name).read_bytes(), name
    model, tokenizer, _ = load_model(folders / "base")
    adapter = load_adapter(tmp_path / "one/out", model, tokenizer)
    assert metrics["n_params_trained"] == adapter.n_parameters < metrics["n_params"]
    assert any(matrix.b.any() for matrix in map(adapter.get, ["layers.0.attention.query", "layers.0.feed_forward.up"]))


def test_a_rank_above_that_of_a_matrix_is_refused_before_training(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"adapter\.rank must not exceed .* found 17, but layers\.0\.attention\.key"):
        tune(folders, make_params(rank=17), tmp_path)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"rank": 0}, "sft.adapter.rank"), ({"alpha": -1.0}, "sft.adapter.alpha"), ({"targets": ["head"]}, "targets")],
)
def test_a_wrong_setting_is_reported_by_its_dotted_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_params(**change)
