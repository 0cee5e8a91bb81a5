"""Settings shared by the stages that train: network sizes and optimization."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, LearningRate, ParamsSection, Seed


class Architecture(ParamsSection):
    """The sizes of the decoder; the vocabulary size comes from the tokenizer."""

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
    def check_heads(self) -> Architecture:
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
        return self


class Spikes(ParamsSection):
    """Detection of bad steps (model/training/spikes.py): the batch is skipped and its documents are listed in events.jsonl."""

    max_robust_z: Annotated[float, Field(ge=0.0)]  # in robust standard deviations above the median; 0 = only non-finite
    window_steps: Annotated[int, Field(ge=8)] = 100  # length of the window for the median
    back_steps: Annotated[int, Field(ge=0)] = 0  # steps to undo, whose batches are skipped too
    max_skips: Annotated[int, Field(ge=0)] = 0  # one more ends the run


Target = Literal["query", "key", "value", "out", "gate", "up", "down"]


class Adapter(ParamsSection):
    """Settings of a low-rank adapter (model/network/lora.py), which is trained instead of the base's weights. `training.matrix_lr`
    is the rate of its matrices, about ten times that of full tuning, and `training.norm_lr` that of DoRA's magnitudes."""

    kind: Literal["lora", "rslora", "dora"] = "lora"
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[
        float, Field(gt=0.0)
    ]  # the product of both matrices counts alpha / rank times; rslora: alpha / √rank
    targets: Annotated[list[Target], Field(min_length=1)]


C = TypeVar("C")  # Count, or Count | None
R = TypeVar("R")  # LearningRate, or LearningRate | None


class Training(ParamsSection, Generic[C, R]):
    """One run of the training loop: Muon for matrices, AdamW for the rest; warmup, constant, decay.

    The names are those of model.training.loop.TrainSettings, OptimSettings and WatchSettings (`spikes`), which receive them all.
    """

    seed: Seed
    total_steps: C
    batch_rows: C  # rows of seq_len tokens per optimizer step, over all processes
    micro_rows: Annotated[
        int, Field(ge=0)
    ]  # rows that a process computes at once; 0 = its whole share; fewer save memory
    matrix_lr: R
    embedding_lr: R
    head_lr: R
    norm_lr: R
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95  # of Muon; runs of a few hundred steps do better with less
    warmup_frac: Frac
    decay_frac: Frac
    final_lr_frac: Frac
    max_grad_norm: Annotated[float, Field(ge=0.0)]  # 0 = no clipping
    eval_every: C  # steps between two points of the held-out curve
    spikes: Spikes | None = None  # null: a non-finite loss ends the run, any other is accepted


Optimization: TypeAlias = Training[Count, LearningRate]
BUDGETED = tuple(name for name, field in Training.model_fields.items() if isinstance(field.annotation, TypeVar))
