"""Model, n-gram and mixture are compared on the same tokens."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluate.heldout.baselines import compare_with_ngram
from pipeline.evaluate.heldout.kneser_ney import KneserNey

BOS, A, B, NEWLINE = 0, 1, 2, 3
TOKEN_BYTES = [b"", b"a", b"bb", b"\n"]
TRAINING = np.array([BOS, A, B, NEWLINE, A, BOS, A, B, NEWLINE, B, B])
DOCUMENTS = [[BOS, A, B, NEWLINE, B, A], [BOS, B, A, NEWLINE, A, B], [BOS, A]]
NATS = [np.linspace(0.5, 1.5, len(ids) - 1) for ids in DOCUMENTS]


def test_as_they_are_all_tokens_count() -> None:
    whole, _ = compare_with_ngram(NATS, DOCUMENTS, TRAINING, TOKEN_BYTES, BOS)
    ngram = KneserNey(TRAINING, bos_id=BOS, vocab_size=len(TOKEN_BYTES), order=5).compute_nats(DOCUMENTS)
    assert whole.n_bytes.tolist() == [7, 7, 1]
    assert whole.model.tolist() == pytest.approx([part.sum() for part in NATS])
    assert whole.ngram.tolist() == pytest.approx([part.sum() for part in ngram])
    assert 0 <= whole.model_weight <= 1


def test_clean_counts_new_lines_only() -> None:
    """`abb` and `a` are in training, `bba` is not."""
    _, clean = compare_with_ngram(NATS, DOCUMENTS, TRAINING, TOKEN_BYTES, BOS)
    assert clean.n_bytes.tolist() == [3, 4, 0]
    assert clean.model.tolist() == pytest.approx([NATS[0][3:].sum(), NATS[1][:3].sum(), 0])


def test_mixture_of_equal_halves_is_no_worse_than_either() -> None:
    documents = [DOCUMENTS[0]] * 10
    whole, _ = compare_with_ngram([NATS[0]] * 10, documents, TRAINING, TOKEN_BYTES, BOS)
    assert whole.mixture.sum() <= min(whole.model.sum(), whole.ngram.sum()) + 1e-6
