"""Compare a model's nats with an n-gram's and with the mixture of both, on whole documents and on their new lines.

In: nats per token of held-out documents, the training stream. Out: one row per document for each of two sets: the documents as
they are, and clean, of which only the lines count that no training document has. Predictions are the same in both sets, with
everything before a token as its context. Time and memory: kneser_ney.py, boilerplate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.heldout.boilerplate import TokenBytes, find_new_tokens
from pipeline.evaluate.heldout.interpolation import mix
from pipeline.evaluate.heldout.kneser_ney import KneserNey

ORDER = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One set of held-out documents: bytes, and nats of model, n-gram and mixture, each per document."""

    n_bytes: NDArray[np.int64]
    model: Floats
    ngram: Floats
    mixture: Floats
    model_weight: float  # in the mixture


def compare_with_ngram(
    nats: Sequence[Floats],
    documents: Sequence[Sequence[int]],
    training: NDArray[np.integer],
    token_bytes: Sequence[bytes],
    bos_id: int,
) -> tuple[Compared, Compared]:
    """Return the documents as they are, and clean. `nats`: the model's, of each document's tokens after <|bos|>."""
    ngram = KneserNey(training, bos_id=bos_id, vocab_size=len(token_bytes), order=ORDER).compute_nats(documents)
    tokens = TokenBytes.of(token_bytes)
    is_new = find_new_tokens(documents, training, tokens, bos_id)
    sizes = [tokens.sizes[np.asarray(ids[1:], dtype=np.int64)] for ids in documents]
    rows = list(zip(nats, ngram, sizes, is_new, strict=True))
    kept = [(own[mask], other[mask], size[mask]) for own, other, size, mask in rows]
    return sum_up([row[:3] for row in rows]), sum_up(kept)


def sum_up(documents: Sequence[tuple[Floats, Floats, NDArray[np.int64]]]) -> Compared:
    """Return the sums of each document, given the model's nats, the n-gram's, and the bytes of its tokens."""
    model, ngram, sizes = zip(*documents, strict=True)
    mixed = mix(model, ngram)
    sums = (np.array([part.sum() for part in parts]) for parts in (model, ngram, mixed.nats))
    n_bytes = np.array([part.sum() for part in sizes], dtype=np.int64)
    return Compared(n_bytes, *sums, model_weight=mixed.weight)
