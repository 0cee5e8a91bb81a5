from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.network.loss import IGNORE, compute_token_nats, cross_entropy, find_scored_tokens, sum_nats


def make_data(ignored: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 11, 16, generator=generator, requires_grad=True)
    weight = torch.randn(50, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (3, 11), generator=generator)
    if ignored:
        targets[0, :5] = IGNORE
        targets[2] = IGNORE
    return hidden, weight, targets


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 1000])
def test_loss_and_gradients_equal_the_unchunked_ones(ignored: bool, chunk_tokens: int) -> None:
    hidden, weight, targets = make_data(ignored)
    nats, count = cross_entropy(hidden, weight, targets, chunk_tokens=chunk_tokens)
    ours = torch.autograd.grad(nats / count, (hidden, weight))
    loss = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    torch.testing.assert_close(nats / count, loss)
    for mine, theirs in zip(ours, torch.autograd.grad(loss, (hidden, weight)), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert count == int((targets != IGNORE).sum())


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 1000])
def test_weights_multiply_the_nats_of_each_target(ignored: bool, chunk_tokens: int) -> None:
    hidden, weight, targets = make_data(ignored)
    weights = torch.randn(targets.shape, generator=torch.Generator().manual_seed(1))  # of both signs
    scored = find_scored_tokens(targets)
    nats = sum_nats(hidden, weight, targets, scored, weights, chunk_tokens=chunk_tokens)
    ours = torch.autograd.grad(nats, (hidden, weight))
    each = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    total = (weights.flatten() * each).sum()
    torch.testing.assert_close(nats, total)
    for mine, theirs in zip(ours, torch.autograd.grad(total, (hidden, weight)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_nats_per_token_add_up() -> None:
    hidden, weight, targets = make_data(True)
    each = compute_token_nats(hidden, weight, targets, chunk_tokens=7)
    torch.testing.assert_close(each.sum(), cross_entropy(hidden, weight, targets)[0].detach())
    assert (each[targets == IGNORE] == 0).all()


def test_loss_without_targets_is_zero() -> None:
    hidden, weight, targets = make_data(True)
    nats, count = cross_entropy(hidden, weight, torch.full_like(targets, IGNORE))
    nats.backward()
    assert (nats.item(), count) == (0.0, 0)
    assert (hidden.grad == 0).all()
