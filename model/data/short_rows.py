"""Start a run with short rows: the same batches, whose rows are cut into pieces until a given step.

In: batches of rows of T tokens, the length of a piece, a step. Out: the same tokens in the same order; before that step as rows of
the piece's length, from it on as they are. Attention over rows of 1,152 tokens takes a fifth more processor time than over rows of
384, and a model that never saw more than 384 tokens predicts what is beyond them worse than without that context: long rows
are needed, but late is enough (docs/training.md). Memory and time: views, none.

Paper: Press et al. 2021 (Shortformer: initial training on shorter sequences).
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from model.data.batches import Batch, Batches


class ShortRowBatches:
    """Batches of `batches`, cut into rows of `row_tokens` before step `n_short_steps`; `seq_len` is their own length.

    Raises: ValueError if a row is not a whole number of pieces.
    """

    def __init__(self, batches: Batches, seq_len: int, row_tokens: int, n_short_steps: int) -> None:
        if not 0 < row_tokens <= seq_len or seq_len % row_tokens:
            raise ValueError(
                f"short rows must divide the row of {seq_len} tokens (model.seq_len); found {row_tokens}; change one of them."
            )
        self.batches, self.row_tokens, self.n_short_steps = batches, row_tokens, n_short_steps
        self.n_rows, self.batch_rows = batches.n_rows, batches.batch_rows

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        batch = self.batches.at(step, rank=rank, n_ranks=n_ranks)
        if step >= self.n_short_steps:
            return batch
        documents = None if batch.documents is None else self._cut(batch.documents)
        return batch._replace(ids=self._cut(batch.ids), targets=self._cut(batch.targets), documents=documents)

    def _cut(self, rows: Int[Tensor, "B T"]) -> Int[Tensor, "R P"]:
        return rows.reshape(-1, self.row_tokens)
