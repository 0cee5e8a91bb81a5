from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from model.network.score import compute_document_nats, compute_nats_by_token, cut_windows
from tests.model.conftest import TINY, awake


@given(st.integers(1, 200), st.integers(2, 40), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_windows_score_each_token_once(n_tokens: int, seq_len: int, overlap_frac: float) -> None:
    targets: list[int] = []
    for start, stop, scored in cut_windows(n_tokens, seq_len, overlap_frac):
        assert 0 <= start < scored <= stop < n_tokens
        assert stop - start <= seq_len
        targets += range(scored, stop + 1)
    assert targets == list(range(1, n_tokens))


@pytest.mark.parametrize("batch_tokens", [1, 64, 8192])
def test_batched_scores_equal_single_documents(batch_tokens: int) -> None:
    model = awake()
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(0, 300, (n,), generator=generator).tolist() for n in (5, 33, 1, 90, 2, 32)]
    nats = compute_document_nats(model, documents, batch_tokens=batch_tokens)
    for ids, value in zip(documents, nats, strict=True):
        if 1 < len(ids) <= TINY.seq_len + 1:
            logits = model.compute_logits(model(torch.tensor([ids[:-1]])))[0]
            by_token = F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
            assert value == pytest.approx(by_token.sum().item(), rel=1e-4)
            assert compute_nats_by_token(model, [ids])[0] == pytest.approx(
                by_token.detach().numpy(), rel=1e-3, abs=1e-4
            )
    assert nats[2] == 0
    assert nats[3] > 0
