"""Grow batches and rows during a run: few rows per step and short ones at the start, all of them at the end.

In: rows of T tokens in the order of a run, stages. Out: per step the next rows of that order, cut into pieces. While the loss falls
fast, a step of half the rows moves the weights as well as one of all, so as many tokens give twice as many steps; once the rate
decays, larger batches are better. Attention over rows of 1,152 tokens takes a fifth more processor time than over rows of 384,
and a model that never saw more than 384 tokens predicts what is beyond them worse than without that context: long rows are
needed, but late is enough (docs/training.md). Memory and time: none, batches are views.

Papers: Smith et al. 2018 (Don't Decay the Learning Rate, Increase the Batch Size); Press et al. 2021 (Shortformer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

from model.data.batches import Batch, RowBatches
from model.data.order import get_rank_slice


class GrowthStage(NamedTuple):
    """A part of a run: its steps, the rows of `seq_len` tokens in each, and the length of the pieces that they are cut into."""

    n_steps: int
    batch_rows: int
    row_tokens: int


class GrowingBatches:
    """The rows of `source` in its order, as many per step as the stages say; the last one lasts until the end of the run.

    Processes share the pieces of a step, so their number may exceed the rows. Raises: ValueError if a row is not a whole number of
    pieces.
    """

    def __init__(self, source: RowBatches, seq_len: int, stages: Sequence[GrowthStage]) -> None:
        for stage in stages:
            if not 0 < stage.row_tokens <= seq_len or seq_len % stage.row_tokens:
                raise ValueError(
                    f"short rows must divide the row of {seq_len} tokens (model.seq_len); found {stage.row_tokens}; "
                    "change one of them."
                )
        self.source, self.stages = source, tuple(stages)
        self.n_rows, self.batch_rows = source.n_rows, stages[-1].batch_rows
        self._ends = np.cumsum([stage.n_steps for stage in stages[:-1]], dtype=np.int64)
        drawn = [stage.n_steps * stage.batch_rows for stage in stages[:-1]]
        self._first = np.cumsum([0, *drawn], dtype=np.int64)

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        stage, first = self._find(step)
        batch = self.source.read_rows(first, first + stage.batch_rows)
        n_pieces = batch.ids.numel() // stage.row_tokens
        share = get_rank_slice(n_pieces, rank, n_ranks)

        def cut(rows: Int[Tensor, "B T"]) -> Int[Tensor, "R P"]:
            return rows.reshape(-1, stage.row_tokens)[share]

        documents = None if batch.documents is None else cut(batch.documents)
        return batch._replace(ids=cut(batch.ids), targets=cut(batch.targets), documents=documents)

    def find_spans(self, step: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of a global batch in the stream, row by row."""
        stage, first = self._find(step)
        return self.source.find_row_spans(first, first + stage.batch_rows)

    def count_rows(self, n_steps: int) -> int:
        """Return how many rows the first steps of the run draw."""
        return self._find(n_steps)[1]

    def _find(self, step: int) -> tuple[GrowthStage, int]:
        """Return the stage of a step, and the number of rows drawn before it."""
        number = int(np.searchsorted(self._ends, step, side="right"))
        stage = self.stages[number]
        begin = int(self._ends[number - 1]) if number else 0
        return stage, int(self._first[number]) + (step - begin) * stage.batch_rows
