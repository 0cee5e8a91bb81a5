"""peft loads our adapters onto the export of their base, and computes what the merged model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.export.hf import export_hf
from model.network.adapter_folder import load_adapted_model, save_adapter
from model.network.folder import load_model
from model.network.lora import KINDS, AdaptedModel, LoraAdapter, LoraSettings
from model.tokenizer.chat import encode_prompt
from tests.model.export.test_export import TALK, save_random_model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own call
def test_peft_computes_what_the_merged_model_computes(tmp_path: Path) -> None:
    """One adapter of each kind on all matrices, and one on two of them; peft and transformers take 8 s of imports, once."""
    peft: Any = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    save_random_model(tmp_path / "base", is_tied=True)
    export_hf(tmp_path / "base", tmp_path / "hf")
    settings = [LoraSettings(kind=kind, rank=4, alpha=8.0) for kind in KINDS]  # pyright: ignore[reportArgumentType]
    for number, chosen in enumerate([*settings, LoraSettings(rank=1, alpha=1.0, targets=("value", "down"))]):
        base, tokenizer, _ = load_model(tmp_path / "base")
        adapter = LoraAdapter(base, chosen, seed=number)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        folder = tmp_path / f"adapter-{number}"
        save_adapter(folder, AdaptedModel(base, adapter), tokenizer)
        ours, _, _ = load_adapted_model(tmp_path / "base", folder)
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
        theirs = peft.PeftModel.from_pretrained(plain, folder).eval()
        ids = torch.tensor([encode_prompt(TALK, tokenizer)])
        with torch.no_grad():
            expected = ours.compute_logits(ours(ids))
            assert torch.allclose(theirs(ids).logits, expected, atol=1e-4), chosen.kind
            assert not torch.allclose(base.compute_logits(base(ids)), expected, atol=1e-2), (
                "the adapter changes something"
            )
