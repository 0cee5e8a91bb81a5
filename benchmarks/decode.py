"""Greedy decoding of one request: our generation beside transformers' on the folder that we export, the same ids."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Result, rates
from benchmarks.models import PROMPT, default_model, small_tokenizer
from model.checkpoint import save_model
from model.decoder import Decoder
from model.export import export_hf
from model.sampling import Sampling

N_NEW = 200


def run() -> Result:
    """Tokens a second on the cores that there are; raises if one id differs."""
    warnings.filterwarnings("ignore")
    from transformers import AutoModelForCausalLM

    model = default_model()
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name) / "model", model, small_tokenizer(), phase="sft")
        export_hf(Path(name) / "model", Path(name) / "hf")
        theirs = AutoModelForCausalLM.from_pretrained(Path(name) / "hf", dtype=torch.float32).eval()
    ids = torch.tensor([PROMPT])

    decoder = Decoder(model)

    def ours() -> list[int]:
        return list(decoder.stream(PROMPT, Sampling(max_tokens=N_NEW, temperature=0.0)))

    def peer() -> Any:
        with torch.no_grad():
            found = theirs.generate(ids, max_new_tokens=N_NEW, min_new_tokens=N_NEW, do_sample=False, eos_token_id=None)
        return found[0, len(PROMPT) :].tolist()

    assert ours() == peer()
    fast, slow = rates(ours, peer, N_NEW)
    return Result(
        f"{N_NEW} tokens, {model.config.n_parameters / 1e6:.2f} M parameters", "tokens/s", fast, slow, "transformers"
    )
