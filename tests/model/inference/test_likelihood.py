"""Likelihoods of continuations: equal to the model's own log-probabilities, whatever the batch, and cut from the left."""

from __future__ import annotations

import pytest
import torch

from model.inference.generate import generate
from model.inference.likelihood import Pair, compute_likelihoods, split_ids
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import Transformer

WINDOW = 24
MODEL = Transformer(
    ModelConfig(vocab_size=50, seq_len=WINDOW, n_layer=2, n_head=2, n_kv_head=1, d_model=32, d_head=16, d_ff=48), seed=3
)
IDS = torch.randint(1, 50, (40,), generator=torch.Generator().manual_seed(1)).tolist()


def compute_nats(context: list[int], continuation: list[int]) -> float:
    """Return the negative log-likelihood by the definition, one token at a time."""
    total = 0.0
    with torch.no_grad():
        for at, token in enumerate(continuation):
            hidden = MODEL(torch.tensor([[*context, *continuation[:at]]]))[:, -1]
            total -= float(MODEL.compute_logits(hidden).log_softmax(-1)[0, token])
    return total


def test_equals_the_definition_in_any_batch() -> None:
    pairs = [Pair(IDS[:3], IDS[3:7]), Pair(IDS[:1], IDS[5:6]), Pair(IDS[4:14], IDS[20:29]), Pair([7], [7, 7, 7])]
    for batch_tokens in (1, 20, 8192):
        scores = compute_likelihoods(MODEL, pairs, batch_tokens=batch_tokens)
        for score, pair in zip(scores, pairs, strict=True):
            assert score.nats == pytest.approx(compute_nats(list(pair.context), list(pair.continuation)), rel=1e-4)
            assert (len(score.token_nats), score.n_cut) == (len(pair.continuation), 0)


def test_a_greedy_continuation_is_recognized() -> None:
    written = generate(MODEL, IDS[:5], Sampling(max_tokens=6, temperature=0.0))
    other = [*written[:-1], (written[-1] + 1) % 50]
    assert [each.is_greedy for each in compute_likelihoods(MODEL, [Pair(IDS[:5], written), Pair(IDS[:5], other)])] == [
        True,
        False,
    ]


def test_a_long_context_is_cut_from_its_beginning() -> None:
    long, short = compute_likelihoods(MODEL, [Pair(IDS, [1, 2]), Pair(IDS[-(WINDOW - 1) :], [1, 2])])
    assert long.token_nats == pytest.approx(short.token_nats)
    assert (long.n_cut, short.n_cut) == (len(IDS) + 2 - WINDOW - 1, 0)


@pytest.mark.parametrize("pair", [Pair([], [1]), Pair([1], []), Pair([1], [1] * (WINDOW + 1))])
def test_what_cannot_be_scored_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="pair 1 must have a context"):
        compute_likelihoods(MODEL, [Pair([1], [1] * WINDOW), pair])


def test_a_token_across_the_boundary_belongs_to_the_continuation() -> None:
    assert split_ids([1, 2, 3], [1, 2, 3, 4]) == 3
    assert split_ids([1, 2, 3], [1, 2, 9, 4]) == 2
    assert split_ids([], [1]) == 0
