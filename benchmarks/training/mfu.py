"""Model FLOPs a second of training on a CPU as a share of the fastest bf16 matrix product here (PaLM's MFU, causal attention).

Whole optimiser steps, clipping, Muon and AdamW included, of 24,576 tokens in micro-batches of 6,144 (half of what model.budget
takes for a compute-optimal run of 12 M parameters). The peak is measured before and after each size; the lowest share counts.
"""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Result
from model.config import ModelConfig
from pipeline.peak import measured_peak
from pipeline.probe import measured_tokens_per_second

ROWS, MICRO_ROWS = 48, 12
SIZES = {
    "4M": ModelConfig(
        vocab_size=4_096, seq_len=512, n_layer=4, n_head=4, n_kv_head=2, d_model=256, d_head=64, d_ff=688
    ),
    "12M": ModelConfig(
        vocab_size=8_192, seq_len=512, n_layer=6, n_head=6, n_kv_head=2, d_model=384, d_head=64, d_ff=1_024
    ),
    "30M": ModelConfig(
        vocab_size=16_384, seq_len=512, n_layer=8, n_head=8, n_kv_head=2, d_model=512, d_head=64, d_ff=1_408
    ),
}


def run() -> Result:
    """FLOP/s reached and possible, in GFLOP/s, of the size with the lowest share."""
    table = Table("parameters", "tokens/s", "GFLOP/s", "peak", "MFU", title="training, bf16")
    found: list[tuple[float, float]] = []
    for config in SIZES.values():
        before = measured_peak(torch.device("cpu")) * 1e12
        rate = measured_tokens_per_second(config, ROWS, MICRO_ROWS, torch.get_num_threads())
        peak, reached = max(before, measured_peak(torch.device("cpu")) * 1e12), rate * config.flops_per_token()
        found.append((reached, peak))
        cells = (f"{config.n_parameters / 1e6:.1f} M", f"{rate:,.0f}", f"{reached / 1e9:.0f}", f"{peak / 1e9:.0f}")
        table.add_row(*cells, f"{reached / peak:.2f}")
    Console().print(table)
    reached, peak = min(found, key=lambda pair: pair[0] / pair[1])
    work = f"optimiser steps of {ROWS} x 512 tokens, {', '.join(SIZES)} parameters: the lowest MFU"
    return Result(work, "GFLOP/s", reached / 1e9, peak / 1e9, "the fastest bf16 product of square matrices")
