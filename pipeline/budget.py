"""pretrain.budget → the settings of the training loop that params.yaml leaves open.

In: the pretrain section and the sizes of the model, whose vocabulary comes with the tokenizer. Out: all settings. No clock is read.
"""

from __future__ import annotations

from dataclasses import asdict

from model.budget import derive, tokens_for
from model.config import ModelConfig
from pipeline.params import Optimization, Pretrain


def settle(params: Pretrain, config: ModelConfig) -> Optimization:
    """What params.yaml says, and for the rest what follows from the budget."""
    values = params.training.model_dump()
    if params.budget is not None:
        given = params.training
        derived = derive(
            config,
            tokens_for(config, **params.budget.model_dump()),
            total_steps=given.total_steps,
            batch_rows=given.batch_rows,
            matrix_lr=given.matrix_lr,
        )
        values |= {name: value for name, value in asdict(derived).items() if values[name] is None}
    return Optimization(**values)
