"""The mixed loss and its slope equal their definition, and a teacher's top-k distribution is where the divergence is zero."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.network.loss import IGNORE, cross_entropy, find_scored_tokens, sum_nats
from model.network.soft_targets import SoftTargets, mix_losses

V = 30


def make_targets(k: int, share: float, temperature: float, n: int = 12) -> SoftTargets:
    """Return the top-k distribution of a random teacher."""
    logits = 2 * torch.randn(n, V, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    log_probs, ids = (logits / temperature).log_softmax(-1).topk(k)
    return SoftTargets(ids, log_probs, share, temperature)


def draw(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(n, V, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(0, V, (n, 1), generator=generator)


def compute_loss(logits: torch.Tensor, index: torch.Tensor, soft: SoftTargets) -> torch.Tensor:
    """Return the loss by its definition: K + 1 outcomes, or V where the top k is all."""
    student = (logits / soft.temperature).softmax(-1).gather(1, soft.ids)
    teacher = soft.log_probs.exp()
    if soft.ids.shape[1] < V:
        student, teacher = (torch.cat([part, 1 - part.sum(-1, keepdim=True)], -1) for part in (student, teacher))
    divergence = (teacher * (teacher / student).log()).sum(-1)
    nats = F.cross_entropy(logits, index[:, 0], reduction="none")
    return (1 - soft.share) * nats + soft.share * soft.temperature**2 * divergence


@pytest.mark.parametrize("k", [1, 5, V])
@pytest.mark.parametrize(("share", "temperature"), [(0.0, 1.0), (0.5, 1.0), (0.7, 2.0), (1.0, 0.5)])
def test_loss_and_slope_equal_the_definition(k: int, share: float, temperature: float) -> None:
    (logits, index), soft = draw(), make_targets(k, share, temperature)
    losses, slope = mix_losses(logits.detach(), index, soft)
    expected = compute_loss(logits, index, soft)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), logits)[0])


def test_the_divergence_is_zero_for_any_division_of_the_remaining_mass() -> None:
    soft = make_targets(4, 1.0, 1.0)
    mass = torch.rand(12, V, generator=torch.Generator().manual_seed(2), dtype=torch.float64).scatter(1, soft.ids, 0)
    rest = 1 - soft.log_probs.exp().sum(-1, keepdim=True)
    student = (mass / mass.sum(-1, keepdim=True) * rest).scatter(1, soft.ids, soft.log_probs.exp())
    losses, slope = mix_losses(student.log(), soft.ids[:, :1], soft)
    torch.testing.assert_close(losses, torch.zeros(12, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(slope, torch.zeros(12, V, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunk_tokens", [3, 100])
def test_the_chunked_loss_is_differentiable_and_weighted(chunk_tokens: int) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = (torch.randn(n, 16, generator=generator).requires_grad_() for n in (12, V))
    targets, weights = torch.randint(0, V, (12,), generator=generator), torch.rand(12, generator=generator)
    targets[3:6] = IGNORE
    soft = make_targets(5, 0.6, 2.0)
    soft = soft._replace(log_probs=soft.log_probs.float())
    nats = sum_nats(hidden, weight, targets, find_scored_tokens(targets), weights, soft, chunk_tokens=chunk_tokens)
    losses = compute_loss(hidden @ weight.T, targets.clamp(min=0)[:, None], soft)
    expected = (losses * weights)[targets != IGNORE].sum()
    torch.testing.assert_close(nats, expected)
    for mine, theirs in zip(
        torch.autograd.grad(nats, (hidden, weight)), torch.autograd.grad(expected, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_without_a_share_the_loss_is_the_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(12, 16, generator=generator), torch.randn(V, 16, generator=generator)
    targets = torch.randint(0, V, (12,), generator=generator)
    soft = make_targets(5, 0.0, 1.0)
    nats = sum_nats(hidden, weight, targets, None, None, soft._replace(log_probs=soft.log_probs.float()))
    torch.testing.assert_close(nats, cross_entropy(hidden, weight, targets)[0])


@pytest.mark.parametrize(("k", "share", "temperature"), [(V + 1, 0.5, 1.0), (4, 1.5, 1.0), (4, 0.5, 0.0)])
def test_settings_out_of_range_are_refused(k: int, share: float, temperature: float) -> None:
    soft = SoftTargets(torch.zeros(1, k, dtype=torch.long), torch.zeros(1, k), share, temperature)
    with pytest.raises(ValueError, match="soft targets need"):
        soft.check(V)
