"""Compute the losses of preference optimization, and their derivatives by the answers' log-probabilities.

In: log-probabilities in nats, of whole answers for pairs, of tokens for groups; the same under the reference. Out: the loss of each
pair or token and its derivatives, in closed form: with them one weighted backward pass gives the gradient. Time: O(values).

    dpo    -log σ(β h)                h = (c - c_ref) - (r - r_ref)          Rafailov et al. 2023
    ipo    (h - 1 / 2β)²                                                     Azar et al. 2023
    simpo  -log σ(β (c / |c| - r / |r|) - γ)                                 Meng et al. 2024, without a reference
    orpo   -c / |c| - β log σ(log odds(c) - log odds(r)),  odds of exp(c / |c|)    Hong et al. 2024, without a reference
    grpo   -min(ρ A, clip(ρ) A) + k KL        per token                      Shao et al. 2024

c and r are the log-probabilities of the chosen and the rejected answer, |c| and |r| their numbers of tokens. GRPO as in Dr. GRPO
(Liu et al. 2025): the advantage is the reward minus the group's mean, not divided by its deviation, and sums over tokens are not
divided by the answer's length; the KL divergence is Schulman's k3, exp(d) - d - 1 with d = log π_ref - log π.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

Values = Float[Tensor, " P"]
MAX_LOG_RATIO = 20.0  # e^20: beyond it a token's ratio is clipped anyway, and its exponential would overflow sums


class PairScores(NamedTuple):
    """Log-probabilities and numbers of tokens of the two answers of each pair, fp64."""

    chosen: Values
    rejected: Values
    chosen_ref: Values
    rejected_ref: Values
    n_chosen: Values
    n_rejected: Values


class PairLoss(NamedTuple):
    """The loss of each pair and its derivatives by `chosen` and `rejected`."""

    losses: Values
    by_chosen: Values
    by_rejected: Values


def compute_pair_loss(
    method: str, scores: PairScores, *, beta: float, margin: float = 0.0, sft_weight: float = 0.0
) -> PairLoss:
    """Return the loss of each pair, plus `sft_weight` times the chosen answer's mean nats."""
    c, r, c_ref, r_ref, n_c, n_r = scores
    if method == "orpo":
        loss = _compute_orpo(c / n_c, r / n_r, beta)
        return PairLoss(loss.losses, loss.by_chosen / n_c, loss.by_rejected / n_r)
    one = torch.ones_like(c)
    if method == "simpo":
        z, by_c, by_r = beta * (c / n_c - r / n_r) - margin, beta / n_c, -beta / n_r
    else:
        h = (c - c_ref) - (r - r_ref)
        z, by_c, by_r = beta * h, beta * one, -beta * one
    losses, slope = -logsigmoid(z), -torch.sigmoid(-z)
    if method == "ipo":
        target = 1 / (2 * beta)
        losses, slope = (z / beta - target) ** 2, 2 * (z / beta - target) / beta
    return PairLoss(losses - sft_weight * c / n_c, slope * by_c - sft_weight / n_c, slope * by_r)


def _compute_orpo(chosen: Values, rejected: Values, beta: float) -> PairLoss:
    """Return ORPO's loss and its derivatives by the mean log-probabilities of a token."""
    log_not_chosen, log_not_rejected = (
        torch.log1p(-chosen.exp().clamp(max=1 - 1e-12)),
        torch.log1p(-rejected.exp().clamp(max=1 - 1e-12)),
    )
    z = (chosen - log_not_chosen) - (rejected - log_not_rejected)
    slope = -beta * torch.sigmoid(-z)
    return PairLoss(
        -chosen - beta * logsigmoid(z), slope * (-log_not_chosen).exp() - 1, -slope * (-log_not_rejected).exp()
    )


class TokenLoss(NamedTuple):
    """The loss of each sampled token, its derivative by the token's log-probability, and what is logged."""

    losses: Float[Tensor, "*N"]
    by_log_probability: Float[Tensor, "*N"]
    is_clipped: Float[Tensor, "*N"]
    kl: Float[Tensor, "*N"]


def compute_token_loss(
    now: Float[Tensor, "*N"],
    sampled: Float[Tensor, "*N"],
    reference: Float[Tensor, "*N"] | None,
    advantages: Float[Tensor, "*N"],
    *,
    clip: float,
    kl_weight: float,
) -> TokenLoss:
    """Return GRPO's loss of each token from its log-probabilities now, when it was sampled, and under the reference."""
    ratio = (now - sampled).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    is_clipped = ratio * advantages > clipped * advantages
    losses = -torch.where(is_clipped, clipped, ratio) * advantages
    slope = torch.where(is_clipped, 0.0, -ratio * advantages)
    kl = torch.zeros_like(now)
    if reference is not None:
        d = (reference - now).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        kl = d.exp() - d - 1
        losses, slope = losses + kl_weight * kl, slope + kl_weight * (1 - d.exp())
    return TokenLoss(losses, slope, is_clipped.double(), kl)


def compute_advantages(rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Return the rewards minus the mean of their group. Its expected gradient is (G - 1) / G of the policy gradient."""
    return rewards - rewards.mean(1, keepdim=True)
