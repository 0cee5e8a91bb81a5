"""Derive tokens, batch size and learning rates of a run from a single budget. Standard library only.

In: a model's sizes and a number of tokens. Out: the settings that were left open. The rules, with C the FLOPs of the run: batch
0.2920 C^0.3271 tokens and learning rate 0.3118 C^-0.1250 (DeepSeek LLM, Bi et al. 2024, fitted from 1e17 to 2e19 with AdamW).
Muon's updates are scaled to AdamW's RMS (model.training.optim), so the same rate applies; at 2.4 M parameters and 4.6 M tokens
the rules give 10,000 tokens and 0.0058, a sweep found 4,608 and 0.005. Embedding and head use 6 times that rate, norms twice,
as in that sweep (with tied weights; untied, params.yaml has 20 and 4 times). Compute-optimal is 20 tokens per parameter
(Hoffmann et al. 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.network.config import ModelConfig

COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER = 20
EMBEDDING_RATE, NORM_RATE = 6.0, 2.0  # multiples of the matrices' rate
FEWEST_STEPS = 200  # fewer leave no room to warm up and decay: the batch shrinks instead
FEWEST_ROWS = 8  # divisible by every common number of processes
CURVE_POINTS = 8


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Settings derived from a budget. Rows are a power of two and rates have three digits, so that every machine rounds alike."""

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
    """Return the number of tokens for one of these budgets. Minutes need a stated rate, because a clock must not determine a
    result. Raises: ValueError unless exactly one budget is given."""
    given = [value for value in (tokens, flops, minutes, tokens_per_parameter) if value is not None]
    if len(given) != 1 or (minutes is not None) != (tokens_per_second is not None):
        raise ValueError(
            "a budget is one of tokens, flops, tokens_per_parameter, or minutes with tokens_per_second: got "
            f"{len(given)}; give exactly one"
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
    """Derive the settings that were not given. The tokens of the run differ from `n_tokens` by less than half a batch or, if
    `total_steps` is given, by the rounding of the rows."""
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
    """Return the batch size in tokens for a run of so many FLOPs."""
    return 0.2920 * flops**0.3271


def compute_matrix_rate(flops: float) -> float:
    """Return the learning rate of matrices for a run of so many FLOPs."""
    return _round_rate(0.3118 * flops**-0.1250)


def _round_rate(rate: float) -> float:
    """Round to three digits; at most 1."""
    return min(float(f"{rate:.3g}"), 1.0)
