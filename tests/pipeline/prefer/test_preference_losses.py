"""Derivatives in closed form equal autograd's of the papers' formulas; GRPO's estimator has the exact expectation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from pipeline.prefer.preference_losses import (
    PairScores,
    compute_advantages,
    compute_pair_loss,
    compute_token_loss,
)

METHODS = ("dpo", "ipo", "simpo", "orpo")
FORMULAS = {
    "dpo": lambda s, b, m: -torch.log(torch.sigmoid(b * ((s[0] - s[2]) - (s[1] - s[3])))),
    "ipo": lambda s, b, m: (((s[0] - s[2]) - (s[1] - s[3])) - 1 / (2 * b)) ** 2,
    "simpo": lambda s, b, m: -torch.log(torch.sigmoid(b / s[4] * s[0] - b / s[5] * s[1] - m)),
    "orpo": lambda s, b, m: -s[0] / s[4] - b * torch.log(torch.sigmoid(torch.log(odds(s[0], s[4]) / odds(s[1], s[5])))),
}


def odds(log_probability: Tensor, n_tokens: Tensor) -> Tensor:
    p = (log_probability / n_tokens).exp()
    return p / (1 - p)


def make_scores(n: int = 6) -> PairScores:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 9, (2, n), generator=generator).double()
    values = -torch.rand(4, n, generator=generator, dtype=torch.float64) * 3 - 0.1
    return PairScores(*values, *lengths)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sft_weight", [0.0, 0.7])
def test_derivatives_equal_autograd_of_the_formula(method: str, sft_weight: float) -> None:
    sft_weight = 0.0 if method == "orpo" else sft_weight  # the term is part of it
    scores = make_scores()
    chosen, rejected = scores.chosen.clone().requires_grad_(), scores.rejected.clone().requires_grad_()
    margin = 0.4 if method == "simpo" else 0.0
    expected = FORMULAS[method]((chosen, rejected, *scores[2:]), 0.3, margin) - sft_weight * chosen / scores.n_chosen
    by_chosen, by_rejected = torch.autograd.grad(expected.sum(), (chosen, rejected))
    loss = compute_pair_loss(method, scores, beta=0.3, margin=margin, sft_weight=sft_weight)
    for ours, wanted in zip(loss, (expected.detach(), by_chosen, by_rejected), strict=True):
        torch.testing.assert_close(ours, wanted)


def test_dpo_of_identical_policies_is_log_2() -> None:
    scores = make_scores()._replace(chosen_ref=make_scores().chosen, rejected_ref=make_scores().rejected)
    loss = compute_pair_loss("dpo", scores, beta=0.1)
    assert loss.losses.tolist() == pytest.approx([math.log(2)] * 6)
    torch.testing.assert_close(loss.by_chosen, -loss.by_rejected)


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_finite_at_the_ends_of_the_range(method: str) -> None:
    low, zero, one = torch.tensor([-5000.0]).double(), torch.tensor([0.0]).double(), torch.tensor([3.0]).double()
    for chosen, rejected in ((low, zero), (zero, low)):
        loss = compute_pair_loss(method, PairScores(chosen, rejected, low, low, one, one), beta=0.1)
        assert all(torch.isfinite(values).all() for values in loss)


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
def test_token_loss_equals_autograd_of_the_formula(kl_weight: float) -> None:
    generator = torch.Generator().manual_seed(2)
    now, sampled, reference, advantages = torch.randn(4, 40, generator=generator, dtype=torch.float64)
    now = (now * 0.3).requires_grad_()
    sampled, reference = sampled * 0.3, reference if kl_weight else None
    ratio = (now - sampled).exp()
    expected = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    if reference is not None:
        d = reference - now
        expected = expected + kl_weight * (d.exp() - d - 1)
    (slope,) = torch.autograd.grad(expected.sum(), now)
    loss = compute_token_loss(now.detach(), sampled, reference, advantages, clip=0.2, kl_weight=kl_weight)
    torch.testing.assert_close(loss.losses, expected.detach())
    torch.testing.assert_close(loss.by_log_probability, slope)
    assert 0 < loss.is_clipped.sum() < 40


def test_grpo_has_the_expected_policy_gradient() -> None:
    """Over all groups of 3 answers of a policy over 4, the weighted gradient is 2/3 of the gradient of the expected reward."""
    logits = torch.tensor([0.2, -0.5, 1.1, 0.0], dtype=torch.float64, requires_grad=True)
    rewards, n = torch.tensor([0.0, 1.0, 0.3, 0.6], dtype=torch.float64), 3
    exact = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)[0]
    probabilities = logits.detach().softmax(0)
    total = torch.zeros(4, dtype=torch.float64)
    for group in itertools.product(range(4), repeat=n):
        answers = torch.tensor(group)
        advantages = compute_advantages(rewards[answers][None])[0]
        log_probabilities = logits.log_softmax(0)[answers]
        now = log_probabilities.detach()
        loss = compute_token_loss(now, now, None, advantages, clip=0.2, kl_weight=0.0)
        (gradient,) = torch.autograd.grad((loss.by_log_probability * log_probabilities).sum() / n, logits)
        total -= gradient * probabilities[answers].prod()
    torch.testing.assert_close(total, exact * (n - 1) / n)


def test_a_group_without_spread_has_no_advantage() -> None:
    assert (compute_advantages(torch.full((2, 5), 0.3, dtype=torch.float64)).abs() < 1e-15).all()
