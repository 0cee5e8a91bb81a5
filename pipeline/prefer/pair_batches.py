"""Pack pairs of answers into rows, both sides of a pair side by side, and compute the pairs' losses from the nats of a pass.

In: prompts and answers as ids. Out: batches, each a pure function of the step, whose objective is the mean of the pairs' losses. A
row holds whole pairs, numbered 2k (chosen) and 2k + 1 (rejected) in `documents`, so that micro-batches and processes never divide
one. The log-probabilities under the reference, the model before training, are computed once and kept. Memory: the ids, and two
numbers per pair. Time: that of training on both sides, and one forward pass at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from model.data.batches import Batch
from model.data.order import Order
from model.data.packing import pack
from model.network.loss import IGNORE
from pipeline.prefer.preference_losses import PairScores, compute_pair_loss

MEASURED: tuple[str, ...] = (
    *("chosen_nats", "rejected_nats"),  # of the answers
    *("chosen_gain_nats", "rejected_gain_nats"),  # by how much more likely than under the base; negative: less
    *("margin_nats", "preferred_frac"),  # the difference of the gains, and whether it is positive
)


class EncodedPair(NamedTuple):
    """The ids of a prompt, which ends with <|assistant|>, and of both answers with their <|end|>."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]

    @property
    def n_inputs(self) -> int:
        """The tokens that the pair takes in a row: the last one of each side is a target only."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected) - 2


class PairMethod(NamedTuple):
    """The loss of a pair."""

    name: str
    beta: float
    margin: float = 0.0
    sft_weight: float = 0.0


class PairBatches:
    """Batches of pairs with the objective of a method. Pairs longer than a row must have been left out."""

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        method: PairMethod,
        *,
        seq_len: int,
        batch_rows: int,
        seed: int,
        pad_id: int = 0,
    ) -> None:
        self.pairs, self.seq_len, self.batch_rows, self.pad_id = pairs, seq_len, batch_rows, pad_id
        self.rows = pack([pair.n_inputs for pair in pairs], seq_len)
        self.n_rows = len(self.rows)
        self._order = Order([self.n_rows], seed)
        self.objective = PairObjective(method, self.rows, np.zeros((len(pairs), 2)))

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        return self.make_batch([each.row for each in self._order.list_step_rows(step, self.batch_rows, rank, n_ranks)])

    def make_batch(self, numbers: Sequence[int]) -> Batch:
        """Return these rows as a batch."""
        shape = (len(numbers), self.seq_len)
        ids, targets, documents = (np.full(shape, fill, dtype=np.int64) for fill in (self.pad_id, IGNORE, -1))
        for index, number in enumerate(numbers):
            start = 0
            for place, pair in enumerate(self.rows[number]):
                for side, answer in enumerate((self.pairs[pair].chosen, self.pairs[pair].rejected)):
                    prompt = self.pairs[pair].prompt
                    tokens = np.array([*prompt, *answer], dtype=np.int64)
                    part = slice(start, start + len(tokens) - 1)
                    ids[index, part], documents[index, part] = tokens[:-1], 2 * place + side
                    targets[index, part.start + len(prompt) - 1 : part.stop] = answer
                    start = part.stop
        arrays = (torch.from_numpy(array) for array in (ids, targets, documents))
        return Batch(*arrays, rows=tuple(numbers), objective=self.objective)

    def load_reference(self, path: Path, compute_nats: Callable[[Batch], Tensor], *, may_compute: bool = True) -> None:
        """Read the log-probabilities under the reference from a file, or compute and write them, one row at a time."""
        if not path.is_file() and may_compute:
            values = np.zeros((len(self.pairs), 2))
            for number, pairs in enumerate(self.rows):
                batch = self.make_batch([number])
                sums, _ = sum_by_answer(batch, compute_nats(batch), [len(pairs)])
                values[pairs] = -sums.numpy()
            partial = path.with_suffix(".partial.npy")
            np.save(partial, values)
            partial.replace(path)
        if path.is_file():
            self.objective.reference = np.load(path)


def sum_by_answer(
    batch: Batch, values: Float[Tensor, "B T"], n_pairs: Sequence[int]
) -> tuple[Float[Tensor, "P 2"], Tensor]:
    """Return the sum of the targets' values of each answer in fp64, and the flat number of each target's answer (-1: none).
    `n_pairs` is the number of pairs of each row."""
    assert batch.documents is not None
    first = torch.tensor([0, *n_pairs]).cumsum(0)[:-1, None] * 2
    answers = torch.where(batch.targets >= 0, batch.documents + first, -1)
    is_target = answers >= 0
    sums = torch.zeros(2 * sum(n_pairs), dtype=torch.float64)
    sums.index_add_(0, answers[is_target], values[is_target].double())
    return sums.view(-1, 2), answers


class PairObjective:
    """The mean loss of the pairs. Measures both log-probabilities, whose fall is what DPO is known for (TRL, issue 2382)."""

    def __init__(self, method: PairMethod, rows: Sequence[Sequence[int]], reference: NDArray[np.float64]) -> None:
        self.method, self.rows, self.reference = method, rows, reference
        self._reset()

    def _reset(self) -> None:
        self._sums = dict.fromkeys(MEASURED, 0.0)

    def count_units(self, batch: Batch) -> int:
        """Return the number of pairs in a batch."""
        return sum(len(self.rows[number]) for number in batch.rows)

    def weigh(self, batch: Batch, nats: Float[Tensor, "B T"]) -> tuple[float, Float[Tensor, "B T"]]:
        """Return the sum of the pairs' losses, and its derivative by the nats of each target."""
        n_pairs = [len(self.rows[number]) for number in batch.rows]
        sums, answers = sum_by_answer(batch, nats, n_pairs)
        counts, _ = sum_by_answer(batch, torch.ones_like(nats), n_pairs)
        pairs = [pair for number in batch.rows for pair in self.rows[number]]
        reference = torch.from_numpy(self.reference[pairs])
        scores = PairScores(-sums[:, 0], -sums[:, 1], reference[:, 0], reference[:, 1], counts[:, 0], counts[:, 1])
        name, *numbers = self.method
        beta, margin, sft_weight = numbers
        loss = compute_pair_loss(name, scores, beta=beta, margin=margin, sft_weight=sft_weight)
        by_answer = -torch.stack([loss.by_chosen, loss.by_rejected], 1).view(-1)  # by nats, which are minus the logs
        weights = torch.where(answers >= 0, by_answer[answers.clamp(min=0)], 0.0).float()
        self._measure(scores)
        return float(loss.losses.sum()), weights

    def _measure(self, scores: PairScores) -> None:
        chosen, rejected = scores.chosen - scores.chosen_ref, scores.rejected - scores.rejected_ref
        margins = chosen - rejected
        values = (-scores.chosen, -scores.rejected, chosen, rejected, margins, (margins > 0).double())
        for name, value in zip(self._sums, values, strict=True):
            self._sums[name] += float(value.sum())

    def pop_sums(self) -> dict[str, float]:
        """Return what has been measured since the last call, summed over the pairs."""
        sums = self._sums
        self._reset()
        return sums
