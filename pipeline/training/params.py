"""Settings that every stage that trains shares: the shape of the network and the optimization."""

from __future__ import annotations

from typing import Annotated, Generic, TypeAlias, TypeVar

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, LearningRate, Section, Seed


class Architecture(Section):
    """The decoder's shape; the vocabulary's size comes with the tokenizer."""

    n_layer: Annotated[int, Field(ge=1, le=256)]
    n_head: Annotated[int, Field(ge=1, le=256)]
    n_kv_head: Annotated[int, Field(ge=1, le=256)]
    d_model: Annotated[int, Field(ge=16)]
    d_head: Annotated[int, Field(ge=8)]
    d_ff: Annotated[int, Field(ge=16)]
    seq_len: Annotated[int, Field(ge=16)]
    rope_theta: Annotated[float, Field(gt=1.0)] = 10_000.0
    is_tied: bool = True

    @model_validator(mode="after")
    def heads_divide(self) -> Architecture:
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
        return self


class Spikes(Section):
    """Steps that are not taken (model/training/spikes.py): the batch is left out, its documents are named in events.jsonl."""

    max_robust_z: Annotated[float, Field(ge=0.0)]  # a loss so many robust deviations above the median; 0 = only NaN
    window_steps: Annotated[int, Field(ge=8)] = 100  # of which the median is taken
    back_steps: Annotated[int, Field(ge=0)] = 0  # also undone, and their batches left out
    max_skips: Annotated[int, Field(ge=0)] = 0  # one more ends the run


C = TypeVar("C")  # Count, or Count | None
R = TypeVar("R")  # LearningRate, or LearningRate | None


class Training(Section, Generic[C, R]):
    """One run of the training loop: Muon on the matrices, AdamW on the rest; warmup, constant, decay.

    The names are those of model.training.loop.TrainSettings, OptimSettings and WatchSettings (`spikes`), which take them over whole.
    """

    seed: Seed
    total_steps: C
    batch_rows: C  # rows of seq_len tokens in one optimizer step, over all processes
    micro_rows: Annotated[int, Field(ge=0)]  # rows a process computes at once, 0 = its whole share; less memory
    matrix_lr: R
    embedding_lr: R
    head_lr: R
    norm_lr: R
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95  # Muon's; a run of few hundred steps does better with less
    warmup_frac: Frac
    decay_frac: Frac
    final_lr_frac: Frac
    max_grad_norm: Annotated[float, Field(ge=0.0)]  # 0 = no clipping
    eval_every: C  # steps between two points of the held-out curve
    spikes: Spikes | None = None  # without it, only a loss that is not finite ends the run


Optimization: TypeAlias = Training[Count, LearningRate]
BUDGETED = tuple(name for name, field in Training.model_fields.items() if isinstance(field.annotation, TypeVar))
