"""One training step of the default model on a CPU: our kernels beside the same model in plain torch, both in bf16."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Result, rates
from model.batches import Batch
from model.config import ModelConfig
from model.train import TrainSettings, train
from model.transformer import Transformer

ROWS, SEQ_LEN, STEPS = 12, 384, 6


class RandomBatches:
    """Rows of random ids, the same for both."""

    n_rows, batch_rows = 10_000, ROWS

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        ids = np.random.Generator(np.random.PCG64(step)).integers(16, 4_096, (ROWS, SEQ_LEN + 1))
        tokens = torch.from_numpy(ids)
        return Batch(tokens[:, :-1], tokens[:, 1:])


def run() -> Result:
    """Tokens a second, optimiser included."""
    config = ModelConfig(
        vocab_size=4_096, seq_len=SEQ_LEN, n_layer=4, n_head=3, n_kv_head=1, d_model=192, d_head=64, d_ff=512
    )
    settings = TrainSettings(total_steps=STEPS, precision="bf16", use_compile=False, checkpoint_every_seconds=0)

    def steps(settings: TrainSettings) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return train(Transformer(config), RandomBatches(), settings=settings, checkpoints=Path(folder))

    plain = replace(settings, use_kernels=False)
    fast, slow = rates(lambda: steps(settings), lambda: steps(plain), STEPS * ROWS * SEQ_LEN, rounds=2)
    work = f"{STEPS} steps of {ROWS} x {SEQ_LEN} tokens, {config.n_parameters / 1e6:.2f} M parameters"
    return Result(work, "tokens/s", fast, slow, "plain torch, bf16")
