"""Score continuations: the negative log-likelihood of each after its context, in nats, and whether greedy decoding would write it.

In: pairs of ids. Out: a score for each. What does not fit into the window is cut from the beginning of the context. Pairs of
similar length share a batch, and only positions that are scored are projected to the vocabulary.
Memory: O(batch_tokens × D + chunk × V).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from model.network.transformer import Transformer

CHUNK_TOKENS = 1024


class Pair(NamedTuple):
    """A context of at least one token (<|bos|> counts), and what follows it."""

    context: Sequence[int]
    continuation: Sequence[int]


class Likelihood(NamedTuple):
    """Nats of each token of a continuation; `is_greedy`: each is the most probable one; `n_cut`: tokens of the context that did
    not fit into the window."""

    token_nats: tuple[float, ...]
    is_greedy: bool
    n_cut: int

    @property
    def nats(self) -> float:
        """The negative log-likelihood of the continuation."""
        return float(sum(self.token_nats))


@torch.no_grad()
def compute_likelihoods(
    model: Transformer,
    pairs: Sequence[Pair],
    *,
    batch_tokens: int = 8192,
    on_progress: Callable[[int], None] = lambda n_pairs: None,
) -> list[Likelihood]:
    """Return the likelihood of each continuation, in the order of the pairs.

    Raises: ValueError for a pair without context or continuation, or a continuation that is longer than the window.
    """
    window = model.config.seq_len
    _check_pairs(pairs, window)
    rows = [([*pair.context, *pair.continuation])[-(window + 1) :] for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda index: -len(rows[index]))
    scores: dict[int, Likelihood] = {}
    while order:
        n = max(1, batch_tokens // len(rows[order[0]]))
        group, order = order[:n], order[n:]
        lengths = [len(pairs[index].continuation) for index in group]
        nats, is_best = _score_rows(model, [rows[index] for index in group], lengths)
        for index, row_nats, row_best in zip(group, nats, is_best, strict=True):
            n_cut = len(pairs[index].context) + len(pairs[index].continuation) - len(rows[index])
            scores[index] = Likelihood(tuple(row_nats), all(row_best), n_cut)
        on_progress(len(group))
    return [scores[index] for index in range(len(pairs))]


def _score_rows(
    model: Transformer, rows: Sequence[Sequence[int]], lengths: Sequence[int]
) -> tuple[list[list[float]], list[list[bool]]]:
    """Return nats, and whether each is the most probable token, of the last `lengths` tokens of each row."""
    device = model.embedding.weight.device
    width = len(rows[0]) - 1
    ids = np.zeros((len(rows), width), dtype=np.int64)  # padded at the end, where no scored token attends to it
    for number, row in enumerate(rows):
        ids[number, : len(row) - 1] = row[:-1]
    at_row = np.repeat(np.arange(len(rows)), lengths)
    at_token = np.concatenate([np.arange(len(row) - 1 - n, len(row) - 1) for row, n in zip(rows, lengths, strict=True)])
    targets = torch.tensor([token for row, n in zip(rows, lengths, strict=True) for token in row[-n:]], device=device)
    hidden = model(torch.from_numpy(ids).to(device))[torch.from_numpy(at_row), torch.from_numpy(at_token)]
    nats: list[float] = []
    is_best: list[bool] = []
    for part, wanted in zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True):
        logits = model.compute_logits(part).float()
        nats += torch.nn.functional.cross_entropy(logits, wanted, reduction="none").tolist()
        is_best += (logits.argmax(-1) == wanted).tolist()
    ends = np.cumsum([0, *lengths])
    spans = [(int(start), int(stop)) for start, stop in pairwise(ends)]
    return [nats[start:stop] for start, stop in spans], [is_best[start:stop] for start, stop in spans]


def _check_pairs(pairs: Sequence[Pair], window: int) -> None:
    for number, pair in enumerate(pairs):
        if not pair.context or not 0 < len(pair.continuation) <= window:
            raise ValueError(
                f"pair {number} must have a context, and a continuation of 1 to {window} tokens (model.seq_len); found "
                f"{len(pair.context)} and {len(pair.continuation)}; leave it out."
            )


def split_ids(context: Sequence[int], whole: Sequence[int]) -> int:
    """Return how many ids the encoded context and the encoded whole share at their beginning: a token that spans the boundary
    belongs to the continuation, so that its text is always complete."""
    n = 0
    while n < min(len(context), len(whole)) and context[n] == whole[n]:
        n += 1
    return n
