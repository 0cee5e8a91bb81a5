"""Model FLOPs utilization of training on a CPU: FLOP/s of whole steps against the fastest bf16 matrix product on this machine.

MFU as in PaLM (Chowdhery et al. 2022), with causal attention. Steps include clipping, Muon and AdamW, on 24,576 tokens in
micro-batches of 6,144 (half of what model.planning.budget chooses for a compute-optimal run of 12 M parameters). The peak is
measured before and after each size, and the lowest MFU is the result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from benchmarks.measure import Result, Row
from model.network.config import ModelConfig
from pipeline.plan import measure_tokens_per_second
from pipeline.training.peak import measure_peak

ROWS, MICRO_ROWS, SEQ_LEN = 48, 12, 512
SHAPES = {  # name: vocab_size, n_layer, n_head, d_model, d_ff
    "4M": (4_096, 4, 4, 256, 688),
    "12M": (8_192, 6, 6, 384, 1_024),
    "30M": (16_384, 8, 8, 512, 1_408),
}


def run(*, sizes: tuple[str, ...] = ("4M", "12M", "30M")) -> Result:
    """Return GFLOP/s reached and possible, of the size with the lowest MFU."""
    rows: list[Row] = []
    results: list[Result] = []
    cpu = torch.device("cpu")
    for vocab_size, n_layer, n_head, d_model, d_ff in (SHAPES[size] for size in sizes):
        shape: dict[str, Any] = {
            "n_layer": n_layer,
            "n_head": n_head,
            "n_kv_head": 2,
            "d_model": d_model,
            "d_head": 64,
            "d_ff": d_ff,
        }
        config = ModelConfig(vocab_size=vocab_size, seq_len=SEQ_LEN, **shape)
        before = measure_peak(cpu)
        rate = measure_tokens_per_second(config, ROWS, MICRO_ROWS, torch.get_num_threads())
        peak, reached = 1e3 * max(before, measure_peak(cpu)), rate * config.count_flops_per_token() / 1e9
        work = f"steps of {ROWS} x {SEQ_LEN} tokens, {config.n_parameters / 1e6:.1f} M parameters: the lowest MFU"
        results.append(Result(work, "GFLOP/s", reached, peak, "the fastest bf16 product of square matrices"))
        million = config.n_parameters / 1e6
        rows.append(
            {"M parameters": million, "tokens/s": rate, "GFLOP/s": reached, "peak": peak, "MFU": reached / peak}
        )
    lowest = min(results, key=lambda result: result.ratio or 0.0)
    return replace(lowest, details=rows)
