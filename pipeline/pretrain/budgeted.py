"""Derive the pretraining settings that params.yaml leaves open from pretrain.budget (the rules: model/planning/budget.py).

A file of its own because pipeline.plan needs it without torch.
"""

from __future__ import annotations

from dataclasses import asdict

from model.network.config import ModelConfig
from model.planning.budget import compute_tokens, derive_settings
from pipeline.pretrain.params import Pretrain
from pipeline.training.params import Optimization


def complete_training(params: Pretrain, config: ModelConfig) -> Optimization:
    """Return all training settings: those given in params.yaml, and the rest derived from the budget."""
    values = params.training.model_dump()
    if params.budget is not None:
        given = {name: values[name] for name in ("total_steps", "batch_rows", "matrix_lr")}
        derived = derive_settings(config, compute_tokens(config, **params.budget.model_dump()), **given)
        values |= {name: value for name, value in asdict(derived).items() if values[name] is None}
    return Optimization(**values)
