"""Greedy decoding of one request, on all cores: ours against transformers on the folder that we export; the ids are equal."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Result, Work, compare
from benchmarks.serving.models import PROMPT, make_default_model, train_small_tokenizer
from model.export.hf import export_hf
from model.inference.decoder import Decoder
from model.inference.sampling import Sampling
from model.network.folder import save_model


def run(*, n_new: int = 200) -> Result:
    """Return tokens per second."""
    warnings.filterwarnings("ignore")
    from transformers import AutoModelForCausalLM

    model = make_default_model()
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name) / "model", model, train_small_tokenizer(), phase="sft")
        export_hf(Path(name) / "model", Path(name) / "hf")
        exported: Any = AutoModelForCausalLM.from_pretrained(Path(name) / "hf", dtype=torch.float32).eval()
    ids, decoder = torch.tensor([PROMPT]), Decoder(model)

    def ours() -> list[int]:
        return list(decoder.stream(PROMPT, Sampling(max_tokens=n_new, temperature=0.0)))

    @torch.no_grad()
    def peer() -> Any:
        rows = exported.generate(ids, max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False, eos_token_id=None)
        return rows[0, len(PROMPT) :].tolist()

    work = f"{n_new} tokens, {model.config.n_parameters / 1e6:.2f} M parameters"
    return compare(Work(work, "tokens/s", n_new, "transformers", is_one_core=False), ours, peer)
