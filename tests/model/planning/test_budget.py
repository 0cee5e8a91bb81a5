from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.network.config import ModelConfig
from model.planning.budget import (
    FEWEST_ROWS,
    compute_batch_tokens,
    compute_matrix_rate,
    compute_tokens,
    derive_settings,
)

SMALL = ModelConfig(vocab_size=4096, seq_len=384, n_layer=4, n_head=3, n_kv_head=1, d_model=192, d_head=64, d_ff=512)


@given(st.integers(1, 10**13))
def test_derived_settings_use_the_tokens_of_the_budget(n_tokens: int) -> None:
    derived = derive_settings(SMALL, n_tokens)
    a_batch = derived.batch_rows * SMALL.seq_len
    assert abs(derived.total_steps * a_batch - n_tokens) <= max(a_batch / 2, a_batch - n_tokens)
    assert derived.batch_rows >= FEWEST_ROWS
    assert derived.batch_rows.bit_count() == 1  # divisible by every common number of processes
    assert 0 < derived.matrix_lr < derived.embedding_lr <= 1
    assert 1 <= derived.eval_every <= derived.total_steps


@given(st.integers(10**6, 10**13), st.integers(10**6, 10**13))
def test_more_tokens_need_larger_batches_and_lower_rates(one: int, other: int) -> None:
    few, many = (derive_settings(SMALL, n) for n in sorted((one, other)))
    assert few.batch_rows <= many.batch_rows
    assert few.matrix_lr >= many.matrix_lr


@given(st.integers(1, 10**5), st.integers(1, 4096), st.floats(1e-5, 0.1))
def test_given_settings_are_kept(total_steps: int, batch_rows: int, matrix_lr: float) -> None:
    derived = derive_settings(SMALL, 10**8, batch_rows=batch_rows, matrix_lr=matrix_lr)
    assert (derived.batch_rows, derived.matrix_lr) == (batch_rows, matrix_lr)
    assert derive_settings(SMALL, 10**8, total_steps=total_steps).total_steps == total_steps


def test_rules_match_the_paper() -> None:
    """DeepSeek LLM's own choice for 7 B parameters and 2 T tokens (table 2): 4.2e-4 and 2304 rows of 4096, at 1.2e23 FLOPs."""
    flops = 6 * 6.9e9 * 2e12 + 2e12 * 12 * 30 * 4096 * 4096
    assert compute_matrix_rate(flops) == pytest.approx(4.2e-4, rel=0.15)
    assert compute_batch_tokens(flops) == pytest.approx(2304 * 4096, rel=0.5)


def test_each_kind_of_budget_determines_tokens() -> None:
    n_tokens = 10**7
    assert compute_tokens(SMALL, tokens=n_tokens) == n_tokens
    assert compute_tokens(SMALL, flops=float(SMALL.count_flops_per_token() * n_tokens)) == n_tokens
    assert compute_tokens(SMALL, minutes=5.0, tokens_per_second=1000.0) == 300_000
    assert compute_tokens(SMALL, tokens_per_parameter=20.0) == 20 * SMALL.n_parameters


@pytest.mark.parametrize(
    "bad", [{}, {"tokens": 1, "flops": 1.0}, {"minutes": 1.0}, {"tokens": 1, "tokens_per_second": 1.0}]
)
def test_budget_must_be_exactly_one(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        compute_tokens(SMALL, **bad)
