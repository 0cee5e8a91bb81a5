"""A training step of the default model on all cores: our kernels against the same model in plain torch, both in bf16."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Result, Work, compare
from model.data.batches import Batch
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.training.loop import TrainSettings, train

CONFIG = ModelConfig(vocab_size=4_096, seq_len=384, n_layer=4, n_head=3, n_kv_head=1, d_model=192, d_head=64, d_ff=512)


class RandomBatches:
    """Draw rows of random ids, the same ones for the same step."""

    n_rows = 10_000_000

    def __init__(self, config: ModelConfig, batch_rows: int) -> None:
        self.config, self.batch_rows = config, batch_rows

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return the batch of a step."""
        generator = np.random.Generator(np.random.PCG64(step))
        ids = generator.integers(0, self.config.vocab_size, (self.batch_rows, self.config.seq_len + 1))
        tokens = torch.from_numpy(ids)
        return Batch(tokens[:, :-1], tokens[:, 1:])


def run(*, n_steps: int = 6, batch_rows: int = 12) -> Result:
    """Return tokens per second, optimizer included. Raises: `UserError` if the losses are more than 4 % apart."""
    settings = TrainSettings(total_steps=n_steps, precision="bf16", use_compile=False, checkpoint_every_seconds=0)
    batches = RandomBatches(CONFIG, batch_rows)

    def train_steps(settings: TrainSettings) -> float:
        losses: list[float] = []
        torch.manual_seed(1)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Path(folder)
            train(
                Transformer(CONFIG),
                batches,
                settings=settings,
                checkpoints=checkpoints,
                on_step=lambda record: losses.append(record.loss_nats),
            )
        return losses[-1]

    work = f"{n_steps} steps of {batch_rows} x {CONFIG.seq_len} tokens, {CONFIG.n_parameters / 1e6:.2f} M parameters"
    return compare(
        Work(work, "tokens/s", n_steps * batch_rows * CONFIG.seq_len, "plain torch, bf16", is_one_core=False),
        lambda: train_steps(settings),
        lambda: train_steps(replace(settings, use_kernels=False)),
        is_same=lambda ours, peer: abs(ours - peer) <= 0.04 * peer,
        rounds=2,
    )
