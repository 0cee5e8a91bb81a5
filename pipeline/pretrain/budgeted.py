"""Derive the pretraining settings that params.yaml leaves open from pretrain.budget (the rules: model/planning/budget.py), and the
batch size of each part of a run from pretrain.data.growth.

A file of its own because pipeline.plan and pipeline.launch need it without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

from model.network.config import ModelConfig
from model.planning.budget import compute_tokens, derive_settings
from pipeline.pretrain.params import Growth, Pretrain
from pipeline.training.params import Optimization


def complete_training(params: Pretrain, config: ModelConfig) -> Optimization:
    """Return all training settings: those given in params.yaml, and the rest derived from the budget."""
    values = params.training.model_dump()
    if params.budget is not None:
        given = {name: values[name] for name in ("total_steps", "batch_rows", "matrix_lr")}
        derived = derive_settings(config, compute_tokens(config, **params.budget.model_dump()), **given)
        values |= {name: value for name, value in asdict(derived).items() if values[name] is None}
    return Optimization(**values)


def list_stages(growth: Sequence[Growth], *, seq_len: int, n_steps: int, batch_rows: int) -> list[tuple[int, int, int]]:
    """Return (steps, rows per step, length of the pieces of a row) of each part of a run; in the last one batches are complete."""
    ends = [0, *(round(part.until_frac * n_steps) for part in growth), n_steps]
    sizes = [(part.batch_rows or batch_rows, part.row_tokens or seq_len) for part in growth]
    lengths = [end - begin for begin, end in pairwise(ends)]
    return [(n, *size) for n, size in zip(lengths, [*sizes, (batch_rows, seq_len)], strict=True)]


def count_shared_rows(params: Pretrain, batch_rows: int) -> int:
    """Return the number of rows, or of their pieces, that the batches of all parts of a run are multiples of."""
    seq_len = params.model.seq_len
    stages = list_stages(params.data.growth, seq_len=seq_len, n_steps=1, batch_rows=batch_rows)
    return math.gcd(*(rows * (seq_len // row_tokens) for _, rows, row_tokens in stages))
