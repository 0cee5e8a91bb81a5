"""One dial: how much may be spent → how many tokens, in which batches, at which learning rates. Standard library only.

In: a model's sizes and a number of tokens. Out: what a run needs to know and was not told. The rules, with C the FLOPs of the run:
batch 0.2920 C^0.3271 tokens and rate 0.3118 C^-0.1250 (DeepSeek LLM, Bi et al. 2024, fitted from 1e17 to 2e19 with AdamW). Our
matrices' steps have AdamW's size (model.training.optim), so the rate is theirs; at 2.4 M parameters and 4.6 M tokens the rules give 10,000
tokens and 0.0058, where search found 4,608 and 0.005. Embedding and head take 6 times that rate, norms twice, as that search did.
Compute-optimal is 20 tokens a parameter (Hoffmann et al. 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.network.config import ModelConfig

COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER = 20
EMBEDDING_RATE, NORM_RATE = 6.0, 2.0  # times the matrices'
FEWEST_STEPS = 200  # fewer leave no room to warm up and decay: the batch shrinks instead
FEWEST_ROWS = 8  # every usual number of processes divides it
CURVE_POINTS = 8


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Settings that follow from a budget; rows are a power of two, rates have three digits, so that no machine rounds otherwise."""

    total_steps: int
    batch_rows: int
    matrix_lr: float
    embedding_lr: float
    head_lr: float
    norm_lr: float
    eval_every: int


def compute_tokens(
    config: ModelConfig,
    *,
    tokens: int | None = None,
    flops: float | None = None,
    minutes: float | None = None,
    tokens_per_second: float | None = None,
    tokens_per_parameter: float | None = None,
) -> int:
    """The tokens that one of these budgets buys; minutes need the rate at which they pass, for a clock must not decide a result."""
    given = [value for value in (tokens, flops, minutes, tokens_per_parameter) if value is not None]
    if len(given) != 1 or (minutes is not None) != (tokens_per_second is not None):
        raise ValueError(
            f"a budget is one of tokens, flops, tokens_per_parameter, or minutes with tokens_per_second; found {len(given)} of "
            "them; give exactly one."
        )
    if tokens is not None:
        return tokens
    if flops is not None:
        return max(int(flops / config.count_flops_per_token()), 1)
    if minutes is not None and tokens_per_second is not None:
        return max(int(minutes * 60 * tokens_per_second), 1)
    assert tokens_per_parameter is not None
    return max(int(tokens_per_parameter * config.n_parameters), 1)


def derive_settings(
    config: ModelConfig,
    n_tokens: int,
    *,
    total_steps: int | None = None,
    batch_rows: int | None = None,
    matrix_lr: float | None = None,
) -> Derived:
    """What was given stays, the rest follows; the run's tokens differ from `n_tokens` by less than half a batch, or, where
    `total_steps` was given, by the rounding of the rows."""
    flops = float(config.count_flops_per_token() * n_tokens)
    if batch_rows is None:
        steps = total_steps or FEWEST_STEPS
        wanted = n_tokens / steps if total_steps else min(compute_batch_tokens(flops), n_tokens / steps)
        batch_rows = max(1 << round(math.log2(max(wanted / config.seq_len, 1))), FEWEST_ROWS)
    if total_steps is None:
        total_steps = max(round(n_tokens / (batch_rows * config.seq_len)), 1)
    rate = matrix_lr if matrix_lr is not None else compute_matrix_rate(flops)
    return Derived(
        total_steps=total_steps,
        batch_rows=batch_rows,
        matrix_lr=rate,
        embedding_lr=_round_rate(rate * EMBEDDING_RATE),
        head_lr=_round_rate(rate * EMBEDDING_RATE),
        norm_lr=_round_rate(rate * NORM_RATE),
        eval_every=max(total_steps // CURVE_POINTS, 1),
    )


def compute_batch_tokens(flops: float) -> float:
    return 0.2920 * flops**0.3271


def compute_matrix_rate(flops: float) -> float:
    return _round_rate(0.3118 * flops**-0.1250)


def _round_rate(rate: float) -> float:
    """Three digits, at most 1."""
    return min(float(f"{rate:.3g}"), 1.0)
