"""How fast a recipe trains on this machine: a few real steps on tokens drawn at random.

In: sizes and the rows of one process. Out: tokens a second of the best step, by the training loop that a run uses. Memory: that of
such a run. Time: a handful of steps, and compiling where there is no kernel.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from model.batches import Batch
from model.config import ModelConfig
from model.train import TrainSettings, train
from model.transformer import Transformer

STEPS = 6  # the first ones allocate


class RandomBatches:
    """The same rows at every step: nothing is to be learned."""

    def __init__(self, config: ModelConfig, batch_rows: int) -> None:
        self.n_rows = self.batch_rows = batch_rows
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, config.vocab_size, (batch_rows, config.seq_len + 1), generator=generator)
        self._batch = Batch(tokens[:, :-1], tokens[:, 1:])

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        return self._batch


def measured_tokens_per_second(config: ModelConfig, rows: int, micro_rows: int, n_threads: int) -> float:
    """Of one process with so many threads; processes beside it take their share of the machine's memory bandwidth on top."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainSettings(total_steps=STEPS, micro_rows=micro_rows, checkpoint_every_seconds=0.0)
            history = train(
                Transformer(config), RandomBatches(config, rows), settings=settings, checkpoints=Path(folder)
            )
    finally:
        torch.set_num_threads(before)
    return max(record.tokens_per_second for record in history)
