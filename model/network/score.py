"""Score documents: the negative log-likelihood of each in nats, for bits per byte.

In: documents as ids, each starting with <|bos|>. Out: float64, one per token or per document. A document longer than seq_len is
split into overlapping windows, and each token is scored once, in the first window that contains it. Memory: O(batch_tokens × D).
Time: 1 / (1 - f) times a single pass over all tokens, with overlap f.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from model.network.loss import IGNORE, compute_token_nats
from model.network.transformer import Transformer


def cut_windows(n_tokens: int, seq_len: int, overlap_frac: float) -> list[tuple[int, int, int]]:
    """Return (start, stop, first scored target) of each window over a document; targets are tokens 1 … n_tokens - 1."""
    stride = max(1, round(seq_len * (1 - overlap_frac)))
    parts = []
    start, scored = 0, 1
    while scored < n_tokens:
        stop = min(start + seq_len, n_tokens - 1)
        parts.append((start, stop, scored))
        scored = stop + 1
        start += stride
    return parts


@torch.no_grad()
def compute_nats_by_token(
    model: Transformer,
    documents: Sequence[Sequence[int]],
    *,
    overlap_frac: float = 0.5,
    batch_tokens: int = 8192,
    on_progress: Callable[[int], None] = lambda n_windows: None,
) -> list[Float[np.ndarray, " T"]]:
    """Return the nats of each document's tokens after the first."""
    seq_len = model.config.seq_len
    device = model.embedding.weight.device
    jobs = [(n, *part) for n, ids in enumerate(documents) for part in cut_windows(len(ids), seq_len, overlap_frac)]
    jobs.sort(key=lambda job: job[1] - job[2])  # longest first, so that rows of similar length share a batch
    by_token = [np.zeros(max(len(ids) - 1, 0), dtype=np.float64) for ids in documents]
    while jobs:
        width = jobs[0][2] - jobs[0][1]
        group, jobs = jobs[: max(1, batch_tokens // width)], jobs[max(1, batch_tokens // width) :]
        ids = np.zeros((len(group), width), dtype=np.int64)
        targets = np.full((len(group), width), IGNORE, dtype=np.int64)
        for row, (number, start, stop, scored) in enumerate(group):
            tokens = np.asarray(documents[number][start : stop + 1], dtype=np.int64)
            ids[row, : stop - start] = tokens[:-1]
            targets[row, scored - 1 - start : stop - start] = tokens[scored - start :]
        hidden = model(torch.from_numpy(ids).to(device))
        nats = (
            compute_token_nats(hidden, model.head.weight, torch.from_numpy(targets).to(device)).double().cpu().numpy()
        )
        for row, (number, start, stop, scored) in enumerate(group):
            by_token[number][scored - 1 : stop] = nats[row, scored - 1 - start : stop - start]
        on_progress(len(group))
    return by_token


def compute_document_nats(
    model: Transformer,
    documents: Sequence[Sequence[int]],
    *,
    overlap_frac: float = 0.5,
    batch_tokens: int = 8192,
    on_progress: Callable[[int], None] = lambda n_windows: None,
) -> Float[np.ndarray, " N"]:
    """Return the sum of nats of each document's tokens after the first, 0 for documents of one token."""
    by_token = compute_nats_by_token(
        model, documents, overlap_frac=overlap_frac, batch_tokens=batch_tokens, on_progress=on_progress
    )
    return np.array([nats.sum() for nats in by_token], dtype=np.float64)
