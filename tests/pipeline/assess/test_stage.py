"""The assess stage: what a base and its tuned version say about a domain's held-out items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.network.adapter_folder import save_adapter
from model.network.config import ModelConfig
from model.network.folder import load_model, save_model
from model.network.lora import AdaptedModel, LoraAdapter, LoraSettings
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import train_bpe
from pipeline.assess.params import Assess
from pipeline.assess.stage import estimate_gain, run
from pipeline.domain.params import Domain
from pipeline.domain.stage import run as run_domain
from pipeline.frame.errors import UserError

ITEMS = [{"text": f"Soup number {n} was {label}.", "label": label} for n, label in enumerate(["good", "bad"] * 6)]
PARAMS = Domain(wordings=["Good or bad? {text}"], reply="{label}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base, an adapter of it, the same base under another name, and a domain."""
    root = tmp_path_factory.mktemp("assess")
    tokenizer = train_bpe([item["text"] for item in ITEMS] * 4, 320)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, seq_len=96, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_head=16, d_ff=64
    )
    model = Transformer(config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(2))
    for name in ("base", "same"):
        save_model(root / name, model, tokenizer, phase="sft")
    loaded, _, _ = load_model(root / "base")
    adapter = LoraAdapter(loaded, LoraSettings(rank=2, alpha=4.0))
    save_adapter(root / "adapter", AdaptedModel(loaded, adapter), tokenizer)
    for name, rows in (("train", ITEMS[:8]), ("heldout", ITEMS[8:])):
        (root / "items").mkdir(exist_ok=True)
        (root / f"items/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "domain").mkdir()
    run_domain(PARAMS, items=root / "items", out=root / "domain")
    return root


@pytest.mark.parametrize("tuned", ["adapter", "same"])
def test_an_untrained_adapter_and_the_base_itself_gain_nothing(tuned: str, folders: Path, tmp_path: Path) -> None:
    metrics = run(
        Assess(max_new_tokens=4),
        base=folders / "base",
        tuned=folders / tuned,
        domain=folders / "domain",
        out=tmp_path,
    )
    assert metrics["n_items"] == 4
    assert metrics["baseline_frac"] == 0.5, "the majority label of as many good as bad ones"
    assert metrics["tuned_chosen_frac"] == metrics["base_chosen_frac"]
    assert (metrics["gain_frac"], metrics["gain_frac_se"]) == (0, 0)
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    right = [row["tuned"]["chosen"] == row["expected"] for row in rows]
    assert metrics["tuned_chosen_frac"] == sum(right) / 4
    assert all(row["base"]["chosen"] in ("good", "bad") for row in rows)


def test_a_folder_that_is_no_domain_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no held-out items"):
        run(
            Assess(max_new_tokens=4),
            base=folders / "base",
            tuned=folders / "same",
            domain=folders / "items",
            out=tmp_path,
        )


def test_the_gain_is_that_of_the_tuned_model() -> None:
    gain = estimate_gain(["a", "b", "a", "a"], ["a", "a", "a", "b"], ["a", "a", "a", "a"])
    assert gain == {"gain_frac": 0.0, "gain_frac_se": pytest.approx((2 / 3) ** 0.5 / 2)}
    assert estimate_gain(["b", "b"], ["a", "b"], ["a", "a"])["gain_frac"] == 0.5
